from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import main
from headrace.shards import Sample, ShardWriter

SENTENCES = {
    "en": [("in paris", "O B-LOC"), ("ann left", "B-PER O")],
    "de": [("in wien", "O B-LOC"), ("paris", "B-PER")],
}
DEV = {
    "en": [("ann in paris", "B-PER O B-LOC", "clean"), ("wien", "B-LOC", "noisy")],
    "de": [("wien", "B-LOC", None), ("paris", "B-PER", None)],
}


def write_source(folder: Path, language: str, rows: list[Any]) -> str:
    with ShardWriter(str(folder)) as writer:
        for number, (text, tags, *subset) in enumerate(rows):
            metadata = {
                "id": str(number),
                "language": language,
                "tokens": text.split(),
                "tags": tags.split(),
            }
            if subset and subset[0]:
                metadata["subset"] = subset[0]
            fields = {"txt": text.encode(), "json": json.dumps(metadata).encode()}
            writer.write(Sample(f"s{number}", fields))
    return str(folder)


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """The options that name training and evaluation sources in two languages."""
    train = [write_source(tmp_path / f"{name}-train", name, SENTENCES[name]) for name in SENTENCES]
    dev = [f"{name}={write_source(tmp_path / f'{name}-dev', name, DEV[name])}" for name in DEV]
    return ["--train", *train, "--evaluate", *dev, "--labels", "uner"]


def test_one_lexicon_for_all_languages(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.json"
    assert main(["lexicon", *sources, "--json", str(output)]) == 0
    document = json.loads(output.read_text())
    assert document["entries"] == {"en": 3, "de": 3}
    # "paris" is a place in English and a person in German: the tie goes to LOC.
    assert document["metrics"]["en"]["micro_f1"] == 1
    assert document["metrics"]["de"]["by_type"]["PER"]["correct"] == 0
    assert set(document["metrics"]["en"]["subsets"]) == {"clean", "noisy"}
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[:3]] == ["language", "en", "de"]
    assert "100.00" in table[1]


def test_one_lexicon_for_each_language(
    sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lexicon", *sources, "--per-language", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["entries"] == {"en": 2, "de": 2}
    assert document["metrics"]["de"]["micro_f1"] == 1
    assert document["metrics"]["en"]["subsets"]["noisy"]["recall"] == 0


def test_mistakes_are_told_with_exit_code_2(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sources[1]
    common = ["lexicon", "--train", source, "--labels"]
    assert main([*common, "uner", "--evaluate", "nolanguage"]) == 2
    assert "not LANG=URL" in capsys.readouterr().err
    assert main([*common, "unner", "--evaluate", f"en={source}"]) == 2
    assert "Did you mean uner?" in capsys.readouterr().err
    assert main([*common, "uner", "--evaluate", f"en={tmp_path / 'nowhere'}"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main([*common, "uner", "--evaluate", f"fr={source}", "--per-language"]) == 2
    assert "the sources hold en" in capsys.readouterr().err


def test_tags_of_another_label_set_are_told_with_their_place(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = write_source(tmp_path / "odd", "en", [("a b", "B-City O"), ("c", "B-Loc")])
    assert main(["lexicon", "--train", odd, "--evaluate", f"en={odd}", "--labels", "uner"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "sample s0" in lines[0]
    assert "Did you mean B-LOC?" in lines[1]
