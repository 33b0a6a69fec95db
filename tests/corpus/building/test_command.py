import pytest

from headrace.cli import main
from headrace.commands.options import sources_of
from headrace.shards.reader import open_readers


@pytest.fixture
def recipe(corpus):
    rows = [{"id": f"d{n}", "text": corpus.sentence(n), "language": "en"} for n in range(5)]
    return str(corpus.recipe({"id": "s", "files": [corpus.jsonl("a.jsonl", rows)]}))


def test_a_dry_run_shows_what_would_be_read_and_writes_nothing(recipe, corpus, capsys):
    assert main(["build", "--recipe", recipe, "--output", str(corpus.out), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "s       CC0-1.0      1      1" in printed
    assert printed.endswith("1 part; nothing was built\n")
    assert not corpus.out.exists()


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["--repair", "a.conll"], ["--repair", "INPUT"]),
        (["--workers", "0"], ["--workers"]),
        (["--workers", "2", "--scheduler", "tcp://x:1"], ["--workers"]),
    ],
)
def test_options_that_mean_nothing_are_refused(recipe, corpus, capsys, options, where):
    assert main(["build", "--recipe", recipe, "--output", str(corpus.out), *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sorted(line.removeprefix("error: ").partition(":")[0] for line in errors) == sorted(
        where
    )


def test_labelled_files_are_named_and_have_no_workers(tmp_path, capsys):
    words = ["build", "--language", "en", "--output", str(tmp_path / "out"), "--workers", "2"]
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert "error: --workers: it has no effect with --language" in errors
    assert "error: INPUT: no labelled file is named" in errors


def test_a_corpus_stands_for_its_languages(recipe, corpus):
    corpus.build(corpus.folder / "recipe.yaml")
    found = sources_of(["elsewhere/hi", str(corpus.out), str(corpus.out / "en")])
    assert found == ["elsewhere/hi", f"{corpus.out}/en", f"{corpus.out}/en"]
    assert [len(reader) for reader in open_readers(found[1:], []).values()] == [5]
