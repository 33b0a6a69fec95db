"""Mistakes in the options of the data commands: told by their names, before any work."""

import json
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.commands.options import counted


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "a.conll"
    path.write_text("Oslo B-LOC\nis O\n\ncold O\n")
    return str(path)


@pytest.fixture
def source(corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    folder = str(tmp_path / "source")
    assert main(["build", corpus, "--output", folder, "--language", "en"]) == 0
    capsys.readouterr()
    return folder


@pytest.fixture
def errors(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run a command that has to be refused; the lines that say why."""

    def refused(*words: str) -> list[str]:
        assert main(words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert all(line.startswith("error: ") for line in lines), lines
        return [line.removeprefix("error: ") for line in lines]

    return refused


def test_build_names_the_options(corpus, errors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = ["--output", "", "--language", "e", "--samples-per-shard", "0", "--limit", "-1"]
    lines = errors("build", corpus, *wrong, "--split-name", "a b")
    assert [line.partition(":")[0] for line in lines] == [
        "--output", "--language", "--samples-per-shard", "--limit", "--split-name",
    ]  # fmt: skip
    assert "Give 1 or more" in lines[2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.conll"]


def test_build_finds_one_input_under_two_names(corpus, errors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--output", "x", "--language", "en"]
    (line,) = errors("build", "a.conll", "./a.conll", corpus, f"file://{corpus}", *words)
    assert "named twice" in line
    assert "./a.conll" in line


def test_index_refuses_what_is_no_language_or_folder(source, errors, tmp_path):
    (line,) = errors("index", source, "--rebuild", "--language", "bad lang!!")
    assert line.startswith("--language: not a language tag")
    (line,) = errors("index", str(tmp_path / "nodir"))
    assert "no such folder" in line


@pytest.mark.parametrize("number", ["0", "-3"])
def test_preview_refuses_a_number_below_one(number, source, errors):
    (line,) = errors("preview", source, "-n", number)
    assert line.startswith("-n: ")


def test_preview_takes_any_large_number(source, capsys):
    assert main(["preview", source, "-n", "9" * 23]) == 0
    assert "2 samples in 1 shard\n" in capsys.readouterr().out


def test_preview_shows_all_choices_and_which_is_right(tmp_path, capsys):
    question = {"context": "It rained.", "choices": ["We got wet.", "We\u001b sang."], "label": 0}
    (tmp_path / "a.jsonl").write_text(json.dumps(question) + "\n")
    url = str(tmp_path / "source")
    assert main(["build", str(tmp_path / "a.jsonl"), "--output", url, "--language", "en"]) == 0
    capsys.readouterr()
    assert main(["preview", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["  It rained. We got wet.", "  * We got wet.", "  - We\ufffd sang."]


@pytest.mark.parametrize("folder", ["", "memory://x", "s3://bucket/x", "{}/a.conll"])
def test_local_folders_are_checked_before_the_work(folder, source, errors, tmp_path):
    text = folder.format(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    (line,) = errors("tokenizer", source, "--output", text)
    assert line.startswith("--output: ")
    lines = errors("encode", source, "--tokenizer", str(tmp_path / "none"), "--cache", text)
    assert lines[0].startswith("--cache: ")
    assert len(lines) == 2
    (line,) = errors("evaluate", "model", "--data", f"en={source}", "--cache", text)
    assert line.startswith("--cache: ")
    lines = errors("report", text, "--compare", str(tmp_path / "none"), text)
    if text.startswith("s3:"):  # it may be a corpus: the store is asked, and there is none
        assert [line.partition(": ")[0] for line in lines] == ["s3://bucket/x/corpus.json"]
    else:
        assert [line.partition(": ")[0] for line in lines][::2] == ["RUN_DIR", "--compare"]
    assert sorted(tmp_path.rglob("*")) == before


def test_result_files_are_checked_before_the_work(source, errors, tmp_path):
    (tmp_path / "file").write_text("")
    for text in ("", str(tmp_path), str(tmp_path / "file" / "x.json"), "ftpx://host/x.json"):
        lexicon = ["--train", source, "--evaluate", f"en={source}", "--labels", "multiconer_v2"]
        for words in (
            ["lexicon", *lexicon],
            ["evaluate", "model", "--data", f"en={source}"],
            ["benchmark", "training"],
        ):
            (line,) = errors(*words, "--json", text)
            assert line.startswith("--json: ")
        lines = errors("predict", "model", "--input", source, "--output", text, "--batch-size", "0")
        assert [line.partition(": ")[0] for line in lines] == ["--output", "--batch-size"]


def test_lexicon_lists_what_is_wrong_with_all_sources_and_the_labels(errors, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    lines = errors("lexicon", "--train", one, "--evaluate", f"en={two}", "--labels", "unner")
    assert len(lines) == 3
    for part in (one, two, "Did you mean uner?"):
        assert any(part in line for line in lines)


def test_tokenizer_names_the_options_and_their_ranges(source, errors, tmp_path):
    wrong = ["--temperature", "2", "--character-coverage", "0.5", "--max-sentences", "0"]
    lines = errors("tokenizer", source, "--output", str(tmp_path / "t"), *wrong)
    assert lines == [
        "--temperature: out of range (value: 2.0). Give 0 to 1",
        "--max-sentences: out of range (value: 0). Give 1 or more",
        "--character-coverage: out of range (value: 0.5). Give 0.98 to 1",
    ]


def test_counts_have_the_number_of_their_noun():
    assert counted(1, "shard") == "1 shard"
    assert counted(0, "shard") == "0 shards"
    assert counted(12_000, "sentence") == "12,000 sentences"
