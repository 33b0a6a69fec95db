from __future__ import annotations

import hashlib

import pytest

from headrace.cli import main
from headrace.corpus.sample_corpus import LANGUAGES, generate, write_conll


def test_layout_is_that_of_multiconer(tmp_path):
    sentences = list(generate("en", "validation", 50, 7, noisy_share=0.5))
    path = tmp_path / "en_dev.conll"
    assert write_conll(path, sentences) == 50
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    assert blocks.pop() == ""
    for block, sentence in zip(blocks, sentences, strict=True):
        header, *lines = block.split("\n")
        assert header == f"# id {sentence.id}\tdomain=en\tsubset={sentence.subset}"
        columns = [line.split(" ") for line in lines]
        assert [column[1:3] for column in columns] == [["_", "_"]] * len(lines)
        assert tuple(column[0] for column in columns) == sentence.tokens
        assert tuple(column[3] for column in columns) == sentence.tags
    assert {sentence.subset for sentence in sentences} == {"clean", "noisy"}


GOLDEN = "5fae76a86b5b7ae2ecde44a06388b7affb732f5de8512dd11be43766cf0c527d"


def test_bytes_of_a_small_corpus_never_change(tmp_path):
    digest = hashlib.sha256()
    for language in LANGUAGES:
        path = tmp_path / f"{language}.conll"
        write_conll(path, generate(language, "validation", 60, 17, noisy_share=0.3))
        digest.update(path.read_bytes())
    assert digest.hexdigest() == GOLDEN


def test_nothing_half_written_is_left_when_a_sentence_fails(tmp_path):
    def broken():
        yield from generate("en", "train", 3, 0)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_conll(tmp_path / "en_train.conll", broken())
    assert list(tmp_path.iterdir()) == []


def test_command_writes_both_files_of_each_language(tmp_path, capsys):
    output = tmp_path / "corpus"
    arguments = ["--languages", "en,zh", "--train", "70", "--validation", "60", "--seed", "3"]
    assert main(["sample", "--output", str(output), *arguments]) == 0
    names = sorted(path.name for path in output.iterdir())
    assert names == ["en_dev.conll", "en_train.conll", "zh_dev.conll", "zh_train.conll"]
    training = (output / "zh_train.conll").read_text(encoding="utf-8")
    assert training.count("# id ") == 70
    assert "subset=noisy" not in training
    validation = (output / "en_dev.conll").read_text(encoding="utf-8")
    assert 0 < validation.count("subset=noisy") < validation.count("# id ") == 60

    main(["sample", "--output", str(tmp_path / "again"), *arguments])
    for name in names:
        assert (output / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_command_names_every_mistake_and_writes_nothing(tmp_path, capsys):
    output = tmp_path / "corpus"
    arguments = ["--languages", "en,xx,yy", "--train", "0", "--noisy-share", "2"]
    assert main(["sample", "--output", str(output), *arguments]) == 2
    message = capsys.readouterr().err
    for text in ("xx", "yy", "--train", "--noisy-share"):
        assert text in message
    assert not output.exists()
