from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import main
from headrace.corpus.readers import CHOICE_FORMATS, FORMATS, Findings, detect_format, read
from headrace.corpus.readers.multiple_choice import ASKED
from headrace.errors import CorpusError
from headrace.shards import ShardReader, read_manifest

WriteFile = Callable[..., str]
DATA = Path(os.environ.get("HEADRACE_DATA", "/nonexistent"))

COPA = {
    "id": 7,
    "question": "cause",
    "premise": "The lamp went out.",
    "choice1": "The moth sang.",
    "choice2": "The oil was used up.",
    "label": 1,
    "pair": 7,
}
ECARE = {
    "index": "train-3",
    "premise": "The lamp went out.",
    "ask-for": "effect",
    "hypothesis1": "We sat in the dark.",
    "hypothesis2": "We sat in the sun.",
    "label": 0,
}
CODAH = {
    "id": 1,
    "category": "o",
    "prompt": "The lamp went out. We",
    "endings": ["lit it.", "ate it.", "sang it.", "flew it."],
    "label": 0,
}
JAPANESE = {
    "q_id": 12,
    "question": "夜に光るものは？",
    "choice0": "石",
    "choice1": "月",
    "choice2": "木",
    "choice3": "水",
    "choice4": "土",
    "label": 1,
}
PLAIN = {"context": "The lamp went out.", "choices": ["Dark.", "Light."], "label": 0}

HEADER = [
    "InputStoryid",
    *(f"InputSentence{number}" for number in range(1, 5)),
    "RandomFifthSentenceQuiz1",
    "RandomFifthSentenceQuiz2",
    "AnswerRightEnding",
]
STORY = [
    "138d5bfb-05cc-41e3-bf2c-fa85ebad14e2",
    "Ines bought a lamp.",
    'She called it "the moon", of course.',
    "One night, it went out.",
    "She had no oil left.",
    "Ines sat in the dark.",
    "Ines threw a party, with candles.",
    "1",
]


def as_lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def as_csv(*rows: list[str], end: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue()


def problems_of(url: str, format: str = "auto") -> list[tuple[str, str]]:
    with pytest.raises(CorpusError) as caught:
        list(read(url, format))
    return [(problem.where.rpartition(":")[2], problem.what) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("format", "record", "expected"),
    [
        (
            "copa",
            COPA,
            {
                "id": "7",
                "language": "en",
                "context": "The lamp went out. What was the cause?",
                "choices": ["The moth sang.", "The oil was used up."],
                "label": 1,
                "question": "cause",
                "pair": 7,
            },
        ),
        (
            "ecare",
            ECARE,
            {
                "id": "train-3",
                "language": "en",
                "context": "The lamp went out. What happened as a result?",
                "choices": ["We sat in the dark.", "We sat in the sun."],
                "label": 0,
                "question": "effect",
            },
        ),
        (
            "codah",
            CODAH,
            {
                "id": "1",
                "language": "en",
                "context": "The lamp went out. We",
                "choices": CODAH["endings"],
                "label": 0,
                "category": "o",
            },
        ),
        (
            "jcommonsenseqa",
            JAPANESE,
            {
                "id": "12",
                "language": "en",
                "context": "夜に光るものは？",
                "choices": ["石", "月", "木", "水", "土"],
                "label": 1,
            },
        ),
        (
            "multiple_choice",
            {**PLAIN, "question": "what next", "source": "mine"},
            {
                "id": "x-000001",
                "language": "en",
                **PLAIN,
                "question": "what next",
                "source": "mine",
            },
        ),
    ],
)
def test_each_layout_is_told_and_becomes_one_form(
    write_file: WriteFile, format: str, record: dict[str, Any], expected: dict[str, Any]
) -> None:
    url = write_file(as_lines(record), "x.jsonl")
    assert detect_format(url) == format
    (sample,) = read(url, language="en")
    assert sample.metadata == expected
    assert sample.text == f"{expected['context']} {expected['choices'][expected['label']]}"


def test_a_story_is_told_with_its_right_ending(write_file: WriteFile) -> None:
    url = write_file(as_csv(HEADER, STORY, [*["b", *STORY[1:7]], "2"]), "cloze.csv")
    assert detect_format(url) == "story_cloze"
    first, second = read(url, language="en", subset="winter")
    assert first.key == STORY[0]
    assert first.text == " ".join([*STORY[1:5], STORY[5]])
    assert first.metadata == {
        "id": STORY[0],
        "language": "en",
        "context": " ".join(STORY[1:5]),
        "choices": STORY[5:7],
        "label": 0,
        "subset": "winter",
    }
    assert second.metadata["label"] == 1
    assert second.text.endswith(STORY[6])


def test_a_csv_as_spreadsheets_save_it(write_file: WriteFile) -> None:
    """A byte order mark, Windows line ends, columns in another order, an ending over two lines."""
    order = [7, 0, 2, 1, 3, 4, 5, 6]
    story = [*STORY[:6], "Ines\nthrew a party.", "2"]
    rows = [[row[position] for position in order] for row in (HEADER, story, STORY)]
    rows[2][1] = "another"
    url = write_file(b"\xef\xbb\xbf" + as_csv(*rows).encode(), "cloze.csv")
    first, second = read(url)
    assert first.metadata["context"] == " ".join(STORY[1:5])
    assert first.text.endswith("Ines\nthrew a party.")
    assert (first.origin, second.origin) == (f"{url}:2", f"{url}:4")


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ([HEADER[:-1], STORY[:-1]], [("1", "a test file without answers")]),
        (
            [["storyid", "storytitle", "sentence1"], ["a", "b", "c"]],
            [("1", "stories without a wrong ending")],
        ),
        ([[*HEADER[:3], *HEADER[4:]], [*STORY[:3], *STORY[4:]]], [("1", "columns are missing")]),
        (
            [
                HEADER,
                [*STORY[:-1], "0"],
                [*STORY[:5], " ", STORY[6], "1"],
                STORY[:-1],
                ["d", *STORY[1:6], STORY[5], "2"],
                ["e", *STORY[1:]],
            ],
            [
                ("2", "neither 1 nor 2"),
                ("3", "RandomFifthSentenceQuiz1 is empty"),
                ("4", "wrong number of columns"),
                ("5", "the same as the right one"),
            ],
        ),
    ],
    ids=["no answers", "ROCStories", "a column less", "rows"],
)
def test_all_faults_of_a_csv_with_their_lines(
    write_file: WriteFile, rows: list[list[str]], faults: list[tuple[str, str]]
) -> None:
    found = problems_of(write_file(as_csv(*rows), "cloze.csv"))
    assert [line for line, _ in found] == [line for line, _ in faults]
    assert all(part in what for (_, what), (_, part) in zip(found, faults, strict=True))


def test_quotes_that_do_not_close(write_file: WriteFile) -> None:
    text = as_csv(HEADER, STORY) + 'b,"never closed\r\nc,d\r\n'
    assert problems_of(write_file(text, "cloze.csv")) == [("3", "not CSV: unexpected end of data")]


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({**COPA, "question": "why"}, "question is neither cause nor effect"),
        ({**COPA, "choice2": " "}, "choice2 is not a string with words"),
        ({**COPA, "premise": 3}, "premise is not a string with words"),
        ({**COPA, "label": 2}, "label is no choice"),
        ({**COPA, "label": True}, "label is not a whole number"),
        ({**COPA, "label": -1}, "no label"),
        ({name: COPA[name] for name in COPA if name != "label"}, "no label"),
        ({**COPA, "choice1": "The oil was used up."}, "the same as the right one"),
        ({**COPA, "id": [1]}, "id is not"),
        ({**COPA, "premise": "\ud800"}, "surrogate"),
    ],
)
def test_each_fault_of_a_question_is_one_message_with_its_line(
    write_file: WriteFile, record: dict[str, Any], fault: str
) -> None:
    fine = {**COPA, "id": "fine"}
    url = write_file(as_lines(fine, record, {**COPA, "id": "too"}), "x.jsonl")
    ((line, what),) = problems_of(url)
    assert line == "2"
    assert fault in what


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        (["one"], "two or more"),
        ("two", "two or more"),
        (["a", ""], "two or more"),
    ],
)
def test_a_list_of_choices_has_two_at_least(
    write_file: WriteFile, choices: object, fault: str
) -> None:
    ((_, what),) = problems_of(write_file(as_lines({**PLAIN, "choices": choices}), "x.jsonl"))
    assert fault in what


def test_several_faults_of_one_line_are_all_named(write_file: WriteFile) -> None:
    url = write_file(as_lines({**ECARE, "premise": "", "ask-for": "?", "label": "0"}), "x.jsonl")
    assert [line for line, _ in problems_of(url)] == ["1"] * 3


def test_an_id_that_two_questions_share(write_file: WriteFile) -> None:
    url = write_file(as_lines(COPA, {**COPA, "premise": "Another."}), "x.jsonl")
    assert problems_of(url) == [("2", "the id is used for another sentence too, at line 1")]
    findings = Findings(url)
    repeated = write_file(as_lines(COPA, COPA), "x.jsonl")
    assert [sample.key for sample in read(repeated, findings=findings)] == ["7", "7-2"]


def test_plain_text_with_a_question_in_it_stays_plain_text(write_file: WriteFile) -> None:
    assert detect_format(write_file('{"text": "a", "question": "b"}\n', "x")) == "jsonl"
    assert set(CHOICE_FORMATS) < set(FORMATS)


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
).filter(str.strip)


@given(
    context=words,
    choices=st.lists(words, min_size=2, max_size=6, unique_by=str.strip),
    data=st.data(),
)
def test_any_question_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, context: str, choices: list[str], data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, len(choices) - 1))
    record = {"context": context, "choices": choices, "label": label}
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    (sample,) = read(str(path))
    assert {name: sample.metadata[name] for name in record} == record


def test_the_source_and_its_summary(
    write_file: WriteFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [COPA, {**COPA, "id": 8, "question": "effect", "label": 0}, {**COPA, "id": 9}]
    url = write_file(as_lines(*records), "copa.jsonl")
    output = str(tmp_path / "out")
    assert main(["build", url, "--output", output, "--language", "en"]) == 0
    metadata = read_manifest(output).metadata
    assert metadata["choices"] == 2
    assert metadata["answers"] == {"0": 1, "1": 2}
    assert metadata["questions"] == {"cause": 2, "effect": 1}
    assert metadata["sentences"] == 3
    assert "entities" not in metadata
    assert [sample.key for sample in ShardReader(output)] == ["7", "8", "9"]
    printed = capsys.readouterr().out.splitlines()
    twos = [line.rpartition(" ")[0].strip() for line in printed if line.endswith(" 2")]
    assert twos == ["choices", "right: 2", "asks: cause"]


def test_questions_and_sentences_are_not_mixed(
    write_file: WriteFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [write_file(as_lines(COPA), "a.jsonl"), write_file('{"text": "b"}\n', "b.jsonl")]
    output = tmp_path / "out"
    assert main(["build", *inputs, "--output", str(output), "--language", "en"]) == 2
    assert "a.jsonl copa, b.jsonl jsonl" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.skipif(not DATA.is_dir(), reason="HEADRACE_DATA does not name the real corpora")
@pytest.mark.parametrize(
    ("name", "format", "questions", "choices"),
    [
        ("balanced_copa/copa_balanced.jsonl", "copa", 668, 2),
        ("xcopa/ta_val.jsonl", "copa", 100, 2),
        ("xcopa/zh_test_a.jsonl", "copa", 334, 2),
        ("ecare/dev.jsonl", "ecare", 1000, 2),
        ("ecare/train.jsonl.gz", "ecare", 10000, 2),
        ("codah/codah.jsonl", "codah", 1820, 4),
        ("jglue/jcommonsenseqa_train.jsonl.gz", "jcommonsenseqa", 8939, 5),
    ],
)
def test_real_corpora(name: str, format: str, questions: int, choices: int) -> None:
    url = str(DATA / name)
    assert detect_format(url) == format
    samples = list(read(url))
    assert len({sample.key for sample in samples}) == len(samples) == questions
    assert {len(sample.metadata["choices"]) for sample in samples} == {choices}
    asked = [sample.metadata["context"].endswith(tuple(ASKED.values())) for sample in samples]
    assert all(asked) == (format in ("copa", "ecare"))
