from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.readers import Findings, read
from headrace.errors import CorpusError, Problem

WriteFile = Callable[..., str]

MULTICONER = """\
# id 5239d808-f300\tdomain=en
eli _ _ B-OtherPER
lilly _ _ I-OtherPER
founder _ _ O

# id 1590dead\tdomain=en
# _ _ O
id _ _ B-OtherPER

"""
UNER = """\
# newdoc id = doc
# sent_id = doc-0001
# text = in tampa bay
1\tin\tO\t-\t-
2\ttampa bay\tB-LOC\t-\tann

# sent_id = doc-0002
1\t#\tO\t-\t-

"""
CONLL_2003 = """\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def rows(url: str, format: str = "auto", **options: object) -> list[tuple[str, list, list]]:
    samples = list(read(url, format, **options))  # type: ignore[arg-type]
    for sample in samples:
        assert sample.text == " ".join(sample.metadata["tokens"])
    return [(s.metadata["id"], s.metadata["tokens"], s.metadata["tags"]) for s in samples]


def problems(url: str, format: str = "auto") -> list[Problem]:
    with pytest.raises(CorpusError) as caught:
        list(read(url, format))
    return list(caught.value.problems)


def only_problem(url: str, format: str = "auto") -> tuple[int, str]:
    """Line and message of the one problem of a file."""
    (problem,) = problems(url, format)
    file, _, line = problem.where.rpartition(":")
    assert file == url
    assert problem.remedy, "every problem says what to do"
    return int(line), problem.what


def test_multiconer(write_file: WriteFile) -> None:
    url = write_file(MULTICONER)
    assert rows(url) == [
        ("5239d808-f300", ["eli", "lilly", "founder"], ["B-OtherPER", "I-OtherPER", "O"]),
        ("1590dead", ["#", "id"], ["O", "B-OtherPER"]),
    ]
    first, second = read(url, language="en", subset="noisy")
    assert first.metadata["domain"] == "en"
    assert (first.metadata["language"], first.metadata["subset"]) == ("en", "noisy")
    assert (first.key, first.origin) == ("5239d808-f300", f"{url}:1")
    assert second.origin == f"{url}:6"


def test_universal_ner(write_file: WriteFile) -> None:
    assert rows(write_file(UNER, "x.iob2")) == [
        ("doc-0001", ["in", "tampa bay"], ["O", "B-LOC"]),
        ("doc-0002", ["#"], ["O"]),
    ]


def test_conll_2003(write_file: WriteFile) -> None:
    assert rows(write_file(CONLL_2003, "eng.testa")) == [
        ("eng-000001", ["EU", "rejects"], ["B-ORG", "O"]),
        ("eng-000002", ["Peter", "Blackburn"], ["B-PER", "I-PER"]),
    ]


def test_multiconer_columns_without_headers(write_file: WriteFile) -> None:
    url = write_file("eli _ _ B-OtherPER\n\nfounder _ _ O\n")
    assert rows(url) == [("in-000001", ["eli"], ["B-OtherPER"]), ("in-000002", ["founder"], ["O"])]


@pytest.mark.parametrize("content", [MULTICONER, CONLL_2003])
def test_gzip_and_missing_last_line_feed(write_file: WriteFile, content: str) -> None:
    plain = rows(write_file(content, "in.conll"))
    assert rows(write_file(gzip.compress(content.encode()), "in.conll.gz")) == plain
    assert rows(write_file(content.rstrip("\n"))) == plain


token = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" "), min_size=1, max_size=8
)
tags = st.sampled_from(["O", "B-A", "B-B-C"])


@given(st.lists(st.lists(st.tuples(token, tags), min_size=1), min_size=1, max_size=5))
def test_any_token_survives(tmp_path_factory: pytest.TempPathFactory, sentences: list) -> None:
    """Also tokens that hold what Unicode calls white space or a line separator."""
    path = tmp_path_factory.mktemp("any") / "in.conll"
    blocks = [
        f"# id s{number}\tdomain=en\n" + "".join(f"{word} _ _ {tag}\n" for word, tag in sentence)
        for number, sentence in enumerate(sentences)
    ]
    path.write_text("\n".join(blocks), encoding="utf-8", newline="\n")
    assert rows(str(path), "multiconer") == [
        (f"s{number}", [word for word, _ in sentence], [tag for _, tag in sentence])
        for number, sentence in enumerate(sentences)
    ]


HEAD = "# id a\tdomain=en\n"


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (HEAD + "x _ _ O\ny _ O\n", 3, "wrong number of columns"),
        (HEAD + "x _ _ O\ny  _ _ O\n", 3, "wrong number of columns"),
        (HEAD + "x _ _ B-A\ny\nz _ _ I-A\n", 3, "wrong number of columns"),
        (HEAD + "x _ _ O\ny _ _ I-A\n", 3, "I- tag that does not continue"),
        (HEAD + "x _ _ B-B\ny _ _ I-A\n", 3, "I- tag that does not continue"),
        (HEAD + "x _ _ B-A\n\n# id b\tdomain=en\ny _ _ I-A\n", 5, "I- tag that does not"),
        (HEAD + "x _ _ o\n", 2, "not an IOB2 tag"),
        (HEAD + "x _ _ B-\n", 2, "not an IOB2 tag"),
        (HEAD + "x _ _ S-A\n", 2, "not an IOB2 tag"),
        (HEAD + "x _ _ _\n", 2, "not an IOB2 tag"),
        (HEAD + " _ _ O\n", 2, "an empty token"),
        (HEAD + "x _ _ O\n# id b\tdomain=en\ny _ _ O\n", 3, "no blank line before the header"),
        (HEAD + "\n# id b\tdomain=en\ny _ _ O\n", 1, "a sentence without tokens"),
        (HEAD + "x _ _ O\n\ny _ _ O\n", 4, "a sentence without a header"),
        ("# id\nx _ _ O\n\n# id b\tdomain=en\ny _ _ O\n", 1, "not a sentence header"),
        (HEAD + "x _ _ O\n\n# id a\tdomain=en\ny _ _ O\n", 4, "id is used for another sentence"),
        ("\ufeff" + HEAD + "x _ _ O\n", 1, "byte order mark"),
        (HEAD + "x _ _ O\r\ny _ _ O\r\n", 2, "Windows line ends, from here on in 2 lines"),
        (HEAD + "x\ry _ _ O\n", 2, "a carriage return inside the line"),
        (HEAD + "x\0 _ _ O\n", 2, "a NUL character"),
        ("", 1, "empty"),
        ("\n\n \n", 1, "empty"),
    ],
)
def test_each_fault_is_one_message_with_its_line(
    write_file: WriteFile, content: str, line: int, message: str
) -> None:
    found_line, found = only_problem(write_file(content))
    assert message in found
    assert found_line == line


def test_not_utf_8(write_file: WriteFile) -> None:
    url = write_file(HEAD.encode() + b"x _ _ O\nm\xfcnchen _ _ B-A\n")
    (problem,) = problems(url)
    assert problem.where == f"{url}:3"
    assert problem.value == "byte 0xfc at column 2"
    assert "iconv" in str(problem.remedy)


def test_utf_16(write_file: WriteFile) -> None:
    assert only_problem(write_file(MULTICONER.encode("utf-16"))) == (
        1,
        "the file is UTF-16, not UTF-8",
    )


def test_damaged_gzip(write_file: WriteFile) -> None:
    packed = gzip.compress(MULTICONER.encode())
    for content in (packed[:-20], packed[:40] + b"xxxx" + packed[44:]):
        found = problems(write_file(content, "in.conll.gz"), "multiconer")
        assert any("gzip file is truncated or damaged" in problem.what for problem in found)


def test_no_such_file_and_a_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("folder")
    for url in (str(folder), str(folder / "none.conll")):
        with pytest.raises(CorpusError) as caught:
            list(read(url))
        assert caught.value.problems[0].where == url


def test_columns_must_stay_the_same_in_a_file(write_file: WriteFile) -> None:
    url = write_file("EU NNP B-ORG\nrejects O\n", "x.conll")
    assert only_problem(url) == (2, "wrong number of columns")


def test_iob1_is_refused_and_can_be_repaired(write_file: WriteFile) -> None:
    url = write_file("EU I-ORG\nrejects O\nPeter I-PER\nBlackburn I-PER\n", "eng.train")
    assert [problem.where for problem in problems(url)] == [f"{url}:1", f"{url}:3"]
    findings = Findings(url, repair=True)
    ((_, _, mended),) = rows(url, findings=findings)
    assert mended == ["B-ORG", "O", "B-PER", "I-PER"]
    assert findings.repairs == {"inside_tags_without_begin": 2}


def test_repair_gives_what_the_clean_file_gives(write_file: WriteFile) -> None:
    clean = rows(write_file(MULTICONER))
    url = write_file("\ufeff" + MULTICONER.replace("\n", "\r\n"), "windows.conll")
    findings = Findings(url, repair=True)
    assert rows(url, findings=findings) == clean
    assert findings.repairs == {"byte_order_marks": 1, "windows_line_ends": 9}


def test_repair_does_not_hide_other_faults(write_file: WriteFile) -> None:
    url = write_file(HEAD + "x _ _ O\r\ny _ O\r\n")
    with pytest.raises(CorpusError, match="wrong number of columns"):
        rows(url, findings=Findings(url, repair=True))


def test_a_sentence_that_is_repeated_whole_is_kept_and_noted(write_file: WriteFile) -> None:
    url = write_file((HEAD + "x _ _ O\n\n") * 3)
    findings = Findings(url)
    samples = list(read(url, findings=findings))
    assert [sample.key for sample in samples] == ["a", "a-2", "a-3"]
    assert [(r.identifier, r.line, r.first_line) for r in findings.repeated] == [
        ("a", 4, 1),
        ("a", 7, 1),
    ]


def test_an_id_of_two_sentences_names_both_lines(write_file: WriteFile) -> None:
    (problem,) = problems(write_file(HEAD + "x _ _ O\n\n" + HEAD + "y _ _ O\n"))
    assert problem.where.endswith(":4")
    assert "at line 1" in problem.what
    assert problem.value == "a"


def test_the_list_of_problems_is_capped_and_the_rest_counted(write_file: WriteFile) -> None:
    found = problems(write_file(HEAD + "x _ _ o\n" * 30))
    assert len(found) == 21
    assert found[-1].what == "10 more problems in this file"


def test_unknown_format(write_file: WriteFile) -> None:
    with pytest.raises(CorpusError, match="multiconer"):
        list(read(write_file(MULTICONER), "conll2000"))
    with pytest.raises(CorpusError, match="--format"):
        list(read(write_file("just some prose\nin two lines\n", "x.txt")))
