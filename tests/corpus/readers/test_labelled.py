"""Texts with labels or scores: GLUE's TSV files and JSON lines, and all that is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import main
from headrace.corpus.readers import Columns, Findings, detect_format, read
from headrace.corpus.readers.labelled import is_labelled
from headrace.errors import CorpusError
from headrace.shards import ShardReader, read_manifest

WriteFile = Callable[..., str]

QNLI = """index\tquestion\tsentence\tlabel
0\tWho "keeps" the mill?\tAda keeps it.\tentailment
1\tWhere is the river?\t"The river is wide.\tnot_entailment
"""


def as_lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def problems_of(url: str, columns: Columns | None = None, format: str = "auto") -> list[tuple]:
    with pytest.raises(CorpusError) as caught:
        list(read(url, format, columns=columns))
    return [(p.where.rpartition(":")[2], p.what, p.remedy) for p in caught.value.problems]


def test_quotes_of_a_glue_file_are_text(write_file: WriteFile) -> None:
    url = write_file(QNLI, "qnli.tsv")
    assert detect_format(url) == "glue_tsv"
    first, second = read(url, language="en", subset="a")
    assert first.metadata == {
        "id": "qnli-0",
        "language": "en",
        "text": 'Who "keeps" the mill?',
        "pair": "Ada keeps it.",
        "label": "entailment",
        "subset": "a",
    }
    assert first.text == 'Who "keeps" the mill?\nAda keeps it.'
    assert second.metadata["pair"] == '"The river is wide.'
    assert (first.origin, second.origin) == (f"{url}:2", f"{url}:3")


HEADERS = {
    "sentence\tlabel": ("sentence", None, "label", None),
    "text\tintent": ("text", None, "intent", None),
    "tweet\tlabel": ("tweet", None, "label", None),
    "text\tcategory": ("text", None, "category", None),
    "index\tgenre\tsentence1\tsentence2\tgold_label": (
        "sentence1",
        "sentence2",
        "gold_label",
        None,
    ),
    "id\tqid1\tquestion1\tquestion2\tis_duplicate": (
        *("question1", "question2", "is_duplicate", None),
    ),
    "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String": ("#1 String", "#2 String", "Quality", None),
    "index\tgenre\tsentence1\tsentence2\tscore": ("sentence1", "sentence2", None, "score"),
    "premise\thypothesis\tlabel": ("premise", "hypothesis", "label", None),
}


@pytest.mark.parametrize("header", HEADERS)
def test_columns_are_known_by_their_usual_names(write_file: WriteFile, header: str) -> None:
    text, pair, label, score = HEADERS[header]
    names = header.split("\t")
    cells = ["2.5" if name == score else f"1 {name}" for name in names]
    url = write_file(f"{header}\n" + "\t".join(cells) + "\n", "in.tsv")
    assert detect_format(url) == "glue_tsv"
    (sample,) = read(url)
    found = sample.metadata
    assert found["text"] == f"1 {text}"
    assert found.get("pair") == (None if pair is None else f"1 {pair}")
    assert found.get("label") == (None if label is None else f"1 {label}")
    assert found.get("score") == (None if score is None else 2.5)
    for other in {"genre", "#1 ID", "qid1"} & set(names):
        assert found[other] == f"1 {other}"


def test_columns_can_be_named(write_file: WriteFile) -> None:
    url = write_file("a\tb\tgrade\tlabel\nx y\tz\t4.5\told\n", "in.txt")
    columns = Columns(text="b", pair="a", score="grade")
    (sample,) = read(url, columns=columns)
    assert sample.metadata["text"] == "z"
    assert sample.metadata["pair"] == "x y"
    assert sample.metadata["score"] == 4.5
    assert "label" not in sample.metadata
    assert sample.metadata["original_label"] == "old"


def test_json_lines_have_the_same_columns(write_file: WriteFile) -> None:
    records = [
        {"sentence_pair_id": "7", "sentence1": "a b", "sentence2": "c", "label": 3.8, "x": [1]},
        {"sentence_pair_id": "8", "sentence1": "d", "sentence2": "e", "label": 0},
    ]
    url = write_file(as_lines(*records), "in.jsonl")
    assert detect_format(url) == "glue_jsonl"
    first, second = read(url, columns=Columns(score="label"))
    assert first.metadata["id"] == "7"
    assert first.metadata["score"] == 3.8
    assert first.metadata["x"] == [1]
    assert second.metadata["score"] == 0.0
    named = as_lines(*({**record, "label": n} for n, record in enumerate(records)))
    labels = [
        sample.metadata["label"]
        for sample in read(write_file(named, "b.jsonl"), columns=Columns(label_names=("no", "yes")))
    ]
    assert labels == ["no", "yes"]


@pytest.mark.parametrize(
    ("record", "format"),
    [
        ({"text": "a", "label": "x"}, "glue_jsonl"),
        ({"text": "a", "pair": "b", "label": 1}, "glue_jsonl"),
        ({"sentence1": "a", "sentence2": "b", "score": 1}, "glue_jsonl"),
        # documents with metadata
        ({"text": "a", "label": 1}, "jsonl"),
        ({"text": "a", "score": 0.3}, "jsonl"),
        ({"text": "a"}, "jsonl"),
        ({"tokens": ["a"], "tags": ["O"], "text": "a", "label": "x"}, "jsonl"),
        # questions with choices
        ({"premise": "a", "question": "cause", "choice1": "b", "choice2": "c", "label": 0}, "copa"),
    ],
)
def test_json_lines_are_told_by_their_members(
    write_file: WriteFile, record: dict[str, Any], format: str
) -> None:
    assert detect_format(write_file(as_lines(record), "in.jsonl")) == format


def test_every_fault_of_a_table_has_its_line(write_file: WriteFile) -> None:
    text = (
        "index\tquestion\tsentence\tlabel\n0\ta\tb\tyes\n1\ta\tb\n2\ta\tb\tc\tyes\n"
        "3\t \tb\tyes\n4\ta\tb\t\n5\ta\tb\t3.8\n\n5\tx\tb\tyes\n5\ty\tb\tno\n"
    )
    found = problems_of(write_file(text, "in.tsv"))
    assert [(line, what) for line, what, _ in found] == [
        ("3", "wrong number of columns"),
        ("4", "wrong number of columns"),
        ("5", "question is not a text with words"),
        ("6", "label is empty"),
        ("7", "label is a number where a label is expected"),
        ("10", "the id is used for another sentence too, at line 9"),
    ]
    assert "--score-column label" in found[4][2]


@pytest.mark.parametrize(
    ("header", "columns", "what"),
    [
        ("index\tquestion\tsentence", None, "no column is known to be a label or a score"),
        ("question\tlabel", None, "no column is known to be a text by its name"),
        ("sentence\tsentence\tlabel", None, "a column stands twice"),
        ("sentence\tlabel", Columns(text="sentance"), "no column sentance, which was named"),
        ("sentence\tlabel", Columns(score="grade"), "no column grade, which was named"),
    ],
)
def test_a_header_that_does_not_do(
    write_file: WriteFile, header: str, columns: Columns | None, what: str
) -> None:
    line = "\t".join("a" for _ in header.split("\t"))
    url = write_file(f"{header}\n{line}\n{line}\n", "in.tsv")
    ((number, found, _),) = problems_of(url, columns)
    assert number == "1"
    assert what in found


def test_every_fault_of_json_lines_has_its_line(write_file: WriteFile) -> None:
    records = [
        {"text": "a", "label": "yes"},
        {"text": "a", "label": 1},
        {"text": "a", "label": 1.5},
        {"text": 3, "label": "yes"},
        {"text": "a", "label": ["yes"]},
        {"text": "a"},
        {"text": "a", "label": True},
        {"text": "a\ud800", "label": "yes"},
    ]
    found = problems_of(write_file(as_lines(*records) + "{\n", "in.jsonl"))
    assert [(line, what) for line, what, _ in found] == [
        ("2", "label is a number where a label is expected"),
        ("3", "label is a number where a label is expected"),
        ("4", "text is not a text with words"),
        ("5", "label is not a text"),
        ("6", "no column is known to be a label or a score by its name"),
        ("7", "label is not a text"),
        ("8", "not Unicode text: half of a surrogate pair, or NaN"),
        ("9", "not JSON: Expecting property name enclosed in double quotes"),
    ]
    assert "--label-names" in found[0][2]
    assert "--label-names" not in found[1][2]


@pytest.mark.parametrize("score", ["", "high", "nan", "inf", "1_0", None, True, [1]])
def test_what_is_no_score(write_file: WriteFile, score: Any) -> None:
    url = write_file(as_lines({"text": "a", "pair": "b", "score": score}), "in.jsonl")
    ((line, what, _),) = problems_of(url)
    assert (line, what) == ("1", "score is not a number")


def test_numbers_without_a_name(write_file: WriteFile) -> None:
    url = write_file("sentence\tlabel\na\t0\nb\t2\nc\tyes\n", "in.tsv")
    assert [sample.metadata["label"] for sample in read(url)] == ["0", "2", "yes"]
    found = problems_of(url, Columns(label_names=("no", "yes")))
    assert [(line, remedy) for line, _, remedy in found] == [
        ("3", "There are names for 0 to 1"),
        ("4", "There are names for 0 to 1"),
    ]


CELL = st.text(
    st.characters(exclude_characters="\t\n\r\0\ufeff", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: bool(text.strip()))


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_texts_come_out_as_they_went_in(tmp_path_factory: Any, rows: list) -> None:
    path = tmp_path_factory.mktemp("glue") / "in.tsv"
    lines = "".join(f"{first}\t{second}\tyes\n" for first, second in rows)
    path.write_bytes(f"sentence1\tsentence2\tlabel\n{lines}".encode())
    samples = list(read(str(path), findings=Findings(str(path))))
    found = [(sample.metadata["text"], sample.metadata["pair"]) for sample in samples]
    assert found == rows


def test_only_texts_with_labels_make_such_a_file() -> None:
    assert is_labelled(["sentence", "label", "x"])
    assert not is_labelled(["sentence1", "label"])
    assert not is_labelled(["sentence", "x"])


def test_a_source_knows_its_labels_and_scores(
    write_file: WriteFile, tmp_path: Any, capsys: Any
) -> None:
    url = write_file(QNLI, "qnli.tsv")
    output = str(tmp_path / "qnli")
    assert main(["build", url, "--output", output, "--language", "en"]) == 0
    printed = capsys.readouterr().out
    assert "labels            2" in printed
    assert read_manifest(output).metadata["labels"] == {"entailment": 1, "not_entailment": 1}
    assert next(iter(ShardReader(output))).metadata["pair"] == "Ada keeps it."
    scored = write_file("text\tpair\tgrade\na\tb\t1\nc\td\t4.5\n", "sts.tsv")
    command = ["build", scored, "--output", str(tmp_path / "sts"), "--language", "en"]
    assert main([*command, "--score-column", "grade"]) == 0
    assert "1 to 4.5" in capsys.readouterr().out
    scores = read_manifest(str(tmp_path / "sts")).metadata["scores"]
    assert scores == {"samples": 2, "least": 1.0, "greatest": 4.5}
    # named columns make another source of the same file
    assert main([*command, "--score-column", "grade", "--text-column", "pair"]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pair-column", "b"], "--pair-column: the first text is not named"),
        (["--label-names", "a"], "--label-names: not names of labels"),
        (["--label-names", "a,a"], "--label-names: not names of labels"),
        (["--text-column", "a", "--label-column", "a"], "a column is named for two things"),
        (["--format", "conll", "--text-column", "a"], "columns are named for glue_tsv and"),
        (["--labels", "conll2003"], "--labels: a label set is for words with tags"),
    ],
)
def test_options_that_do_not_go_together(
    write_file: WriteFile, tmp_path: Any, capsys: Any, options: list[str], words: str
) -> None:
    url = write_file(QNLI, "qnli.tsv")
    command = ["build", url, "--output", str(tmp_path / "out"), "--language", "en"]
    assert main([*command, *options]) == 2
    assert words in capsys.readouterr().err


def test_questions_and_labelled_texts_are_two_sources(
    write_file: WriteFile, tmp_path: Any, capsys: Any
) -> None:
    urls = [write_file(QNLI, "qnli.tsv"), write_file(as_lines({"text": "a"}), "plain.jsonl")]
    assert main(["build", *urls, "--output", str(tmp_path / "out"), "--language", "en"]) == 2
    assert "labelled texts and other samples cannot be one source" in capsys.readouterr().err
