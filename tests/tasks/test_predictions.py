from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.corpus.readers import read
from headrace.errors import CorpusError
from headrace.tasks.predictions import Prediction, write_conll, write_json_lines

PREDICTIONS = [
    Prediction(
        id="5239d808-f300",
        language="en",
        tokens=["eli", "lilly", "founded", "#", "it"],
        tags=["B-OtherPER", "I-OtherPER", "O", "O", "I-ORG"],
    ),
    Prediction(
        id="42",
        language="hi",
        tokens=["चीन", "के", "संस्थापक"],
        tags=["B-HumanSettlement", "O", "O"],
        domain="dev",
    ),
]


def test_conll_text(tmp_path: Path) -> None:
    path = tmp_path / "en.conll"
    assert write_conll(str(path), PREDICTIONS[1:]) == 1
    assert path.read_text(encoding="utf-8") == (
        "# id 42\tdomain=dev\nचीन _ _ B-HumanSettlement\nके _ _ O\nसंस्थापक _ _ O\n\n"
    )


def test_conll_is_read_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "predictions.conll"
    assert write_conll(str(path), PREDICTIONS) == 2
    samples = [sample.metadata for sample in read(str(path), format="multiconer")]
    assert [sample["id"] for sample in samples] == [p.id for p in PREDICTIONS]
    assert [sample["tokens"] for sample in samples] == [p.tokens for p in PREDICTIONS]
    # The inside tag that no begin tag leads to belongs to no entity, and is not written.
    assert samples[0]["tags"] == ["B-OtherPER", "I-OtherPER", "O", "O", "O"]
    assert samples[1]["tags"] == PREDICTIONS[1].tags
    assert [sample["domain"] for sample in samples] == ["en", "dev"]


def test_json_lines_hold_entities_by_the_strict_rule(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    assert write_json_lines(str(path), PREDICTIONS) == 2
    first, second = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert first["entities"] == [{"type": "OtherPER", "start": 0, "end": 2, "text": "eli lilly"}]
    assert first["tags"] == PREDICTIONS[0].tags
    assert second == {
        "id": "42",
        "language": "hi",
        "tokens": PREDICTIONS[1].tokens,
        "tags": PREDICTIONS[1].tags,
        "entities": [{"type": "HumanSettlement", "start": 0, "end": 1, "text": "चीन"}],
    }


def test_json_lines_are_one_line_whatever_the_text_holds(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    prediction = Prediction("1", "en", ["a\nb", "\u2028", '"'], ["O", "B-x", "I-x"])
    write_json_lines(str(path), [prediction])
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 2
    assert json.loads(lines[0])["tokens"] == prediction.tokens


def test_text_that_conll_cannot_hold_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.conll"
    path.write_text("old")
    bad = [
        PREDICTIONS[0],
        Prediction("1", "en", ["new york"], ["O"]),
        Prediction("2\n3", "en", ["", "x"], ["O", "O"]),
    ]
    with pytest.raises(CorpusError) as error:
        write_conll(str(path), bad)
    assert [problem.where.rsplit(" ", 1)[1] for problem in error.value.problems] == ["2", "3", "3"]
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.conll"]


@pytest.mark.parametrize("write", [write_conll, write_json_lines])
def test_a_failure_in_the_middle_leaves_no_file(tmp_path: Path, write: object) -> None:
    def failing() -> Iterator[Prediction]:
        yield PREDICTIONS[0]
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        write(str(tmp_path / "out"), failing())  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []
