from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.shards import Sample, ShardReader
from headrace.shards.sample import make_sample


@pytest.fixture
def urls(
    tmp_path: Path,
    write_source: Callable[..., ShardReader],
    tagged: Callable[..., list[Sample]],
    make_words: Callable[..., list[list[str]]],
) -> list[str]:
    for language in ("en", "hi"):
        samples = tagged(make_words(language, 60))
        write_source(tmp_path / language, samples, samples_per_shard=25, language=language)
    return [str(tmp_path / language) for language in ("en", "hi")]


def test_tokenizer_then_encode(
    urls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, cache = str(tmp_path / "tokenizer"), str(tmp_path / "cache")
    assert main(["tokenizer", *urls, "--output", tokenizer, "--vocab-size", "400"]) == 0
    assert "400 pieces" in capsys.readouterr().out
    encode = ["encode", *urls, "--tokenizer", tokenizer, "--cache", cache]
    assert main([*encode, "--max-length", "64"]) == 0
    output = capsys.readouterr().out
    assert "hi" in output
    assert "all" in output
    assert "Not every word" not in output
    assert len(list(Path(cache).glob("*/*/shard-*/meta.json"))) == 6
    assert main([*encode, "--max-length", "8"]) == 0
    assert "Not every word" in capsys.readouterr().out


def test_every_mistake_is_listed(
    urls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = [str(tmp_path / "nothing"), str(tmp_path / "nowhere")]
    tokenizer = str(tmp_path / "no tokenizer")
    arguments = ["encode", urls[0], *missing, "--tokenizer", tokenizer, "--labels", "multiconer"]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("error: ") for line in lines)
    assert main(["tokenizer", *missing, "--output", str(tmp_path / "t")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_unknown_tags_of_all_sources_are_listed(
    urls: list[str],
    tmp_path: Path,
    tokenizer: object,
    write_source: Callable[..., ShardReader],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample = make_sample("a", "x", {"tokens": ["x"], "tags": ["B-Dam"]})
    write_source(tmp_path / "other", [sample])
    labels = tmp_path / "labels.json"
    labels.write_text('{"name": "few", "types": ["Mill"]}')
    folder = tokenizer.name_or_path  # type: ignore[attr-defined]
    arguments = ["encode", urls[0], str(tmp_path / "other"), "--tokenizer", folder]
    assert main([*arguments, "--labels", str(labels), "--cache", str(tmp_path / "cache")]) == 2
    errors = capsys.readouterr().err
    for tag in ("B-River", "I-River", "B-Dam"):
        assert errors.count(f"(value: {tag})") == 1


def test_encode_names_the_option_and_the_missing_folder(
    urls: list[str],
    tmp_path: Path,
    tokenizer: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tokenizer.name_or_path  # type: ignore[attr-defined]
    assert main(["encode", *urls, "--tokenizer", folder, "--max-length", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --max-length: ")
    assert "Use 3 to" in line
    # OWNER/NAME is a name on the hub as well; where OWNER is a folder, the hub is not asked.
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", None)
    assert main(["encode", *urls, "--tokenizer", "data/tokenizer"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such tokenizer folder" in line
    assert "headrace tokenizer --help" in line
