"""The shifts of the paper: by the length of a text, and by clusters of embeddings."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli import main
from headrace.corpus.split import split_source
from headrace.errors import UserError
from headrace.forgetting import shifts
from headrace.forgetting.shifts import ByClusters, ByLength
from headrace.selection.encoder import Encoder
from headrace.shards import ShardReader, ShardWriter, read_manifest
from headrace.shards.sample import make_sample


def write(folder: Path, texts: list[str], **fields: list[Any]) -> str:
    with ShardWriter(str(folder), samples_per_shard=50) as writer:
        for number, text in enumerate(texts):
            row = {name: values[number] for name, values in fields.items()}
            writer.write(make_sample(f"s{number}", text, {"id": f"s{number}", **row}))
    return str(folder)


def texts_in(folder: Path) -> list[str]:
    return [sample.text for sample in ShardReader(str(folder))]


def words(count: int) -> str:
    return " ".join(f"w{number}" for number in range(count))


# Length


def test_the_mean_length_is_the_boundary(tmp_path: Path, capsys: Any) -> None:
    lengths = [2, 2, 2, 2, 4, 12]  # mean 4
    source = write(tmp_path / "source", [words(count) for count in lengths])
    command = ["split", source, "--output", str(tmp_path / "out"), "--by", "length"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "short: 5 samples, 83.3%" in printed
    assert "boundary 4 words; mean 4, median 2" in printed
    assert [len(text.split()) for text in texts_in(tmp_path / "out" / "short")] == [2, 2, 2, 2, 4]
    assert texts_in(tmp_path / "out" / "long") == [words(12)]
    record = json.loads((tmp_path / "out" / "split.json").read_text())
    assert record["lengths"] == {"2": 4, "4": 1, "12": 1}
    assert record["mean_length_by_part"] == {"short": 2.4, "long": 12.0}
    told = read_manifest(str(tmp_path / "out" / "long")).metadata["split_of"]
    assert (told["by"], told["at"], told["boundary"], told["unit"]) == (
        "length",
        "mean",
        4,
        "words",
    )


def test_the_median_makes_the_parts_as_equal_as_they_can_be(tmp_path: Path) -> None:
    lengths = [1, 1, 5, 5, 5, 5, 9, 9, 9]  # 2 and 7, or 6 and 3
    source = write(tmp_path / "source", [words(count) for count in lengths])
    split = split_source(source, str(tmp_path / "out"), ByLength("median"))
    assert (split.record["boundary"], split.record["parts"]["short"]["samples"]) == (5, 6)


@pytest.mark.parametrize(("at", "short"), [("2", 2), ("5/2", 2), ("3", 3), ("3.9", 3)])
def test_a_boundary_of_one_s_own(tmp_path: Path, at: str, short: int) -> None:
    source = write(tmp_path / "source", [words(count) for count in (1, 2, 3, 4)])
    split = split_source(source, str(tmp_path / "out"), ByLength(Fraction(at)))
    assert split.record["parts"]["short"]["samples"] == short


def test_scripts_without_spaces_have_words_too(tmp_path: Path) -> None:
    source = write(tmp_path / "source", ["猫", "这是一个很长的句子没有空格", "ok"])
    split_source(source, str(tmp_path / "out"), ByLength())
    assert texts_in(tmp_path / "out" / "short") == ["猫", "ok"]


def test_pieces_of_a_tokenizer(small_corpus: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    texts = texts_in(Path(small_corpus.source("en", "train")))
    texts.append(texts[0].swapcase())
    source = write(tmp_path / "source", texts)
    rule = ByLength(tokenizer=str(small_corpus.tokenizer))
    split = split_source(source, str(tmp_path / "out"), rule)
    tokenizer = AutoTokenizer.from_pretrained(small_corpus.tokenizer)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert lengths[-1] != lengths[0]
    lengths[-1] = lengths[0]  # the same text in other letters has the length of the first
    mean = sum(lengths) / len(lengths)
    assert split.record["boundary"] == pytest.approx(mean)
    assert split.record["unit"] == "pieces"
    short = [text for text, length in zip(texts, lengths, strict=True) if length <= mean]
    assert texts_in(tmp_path / "out" / "short") == short


def test_texts_of_one_length_are_refused(tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "source", ["a b", "c d", "e f"])
    for at, part in (("mean", "long"), ("median", "short"), ("7", "long")):
        command = ["split", source, "--output", str(tmp_path / "out"), "--by", "length"]
        assert main([*command, "--at", at]) == 2
        assert f"error: --by: no sample falls into {part}" in capsys.readouterr().err
    assert main([*command, "--at", "some", "--tokenizer", str(tmp_path / "none")]) == 2
    errors = capsys.readouterr().err
    assert "--at: not a length" in errors
    assert "no such tokenizer folder" in errors
    assert not (tmp_path / "out").exists()


# Clusters


@pytest.fixture(scope="module")
def languages(small_corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """English and Hindi texts: a network without any training tells them apart."""
    pytest.importorskip("faiss")
    texts, labels = [], []
    for language in ("en", "hi"):
        own = texts_in(Path(small_corpus.source(language, "train")))
        texts += own
        labels += [language] * len(own)
    order = np.random.default_rng(0).permutation(len(texts))
    folder = tmp_path_factory.mktemp("languages") / "source"
    return write(
        folder, [texts[n] for n in order], label=[labels[n] for n in order],
        topic=[("sport", "art")[n % 2] for n in order],
    )  # fmt: skip


@pytest.fixture(scope="module")
def clustered(
    languages: str, small_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("clustered")
    assert main(command(languages, small_encoder, folder, "out")) == 0
    return folder


def command(source: str, model: Path, folder: Path, output: str) -> list[str]:
    return [
        "split", source, "--output", str(folder / output), "--by", "clusters", "2",
        "--model", str(model), "--max-length", "48", "--cache", str(folder / "cache"),
    ]  # fmt: skip


def test_the_clusters_are_the_languages(clustered: Path, languages: str) -> None:
    record = json.loads((clustered / "out" / "split.json").read_text())
    counts = []
    for name in ("cluster-0", "cluster-1"):
        samples = list(ShardReader(str(clustered / "out" / name)))
        labels = [sample.metadata["label"] for sample in samples]
        counts.append([labels.count("en"), labels.count("hi")])
        told = read_manifest(str(clustered / "out" / name)).metadata["split_of"]
        assert told["source"]["fingerprint"] == read_manifest(languages).fingerprint
        assert told["purity"] == record["purity"]
        assert "labels" not in told
    assert [part["samples"] for part in record["parts"].values()] == [sum(of) for of in counts]
    assert sum(counts[0]) > sum(counts[1])
    assert record["labels"] == {"en": [of[0] for of in counts], "hi": [of[1] for of in counts]}
    assert record["purity"] == round((counts[0][0] + counts[1][1]) / 240, 4) > 0.95
    assert record["largest_label"] == 150 / 240
    assert 0 < record["silhouette"] < 1


def test_the_page_has_both_maps(clustered: Path) -> None:
    page = (clustered / "out" / "report.html").read_text(encoding="utf-8")
    record = json.loads((clustered / "out" / "split.json").read_text())
    large, small = (part["samples"] for part in record["parts"].values())
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", page, re.S)]
    texts = {svg.findtext("title"): svg.findtext("desc") for svg in drawings}
    assert f"cluster-0: {large}, cluster-1: {small};" in str(texts["Map by cluster"])
    assert "en: 150, hi: 90" in str(texts["Map by label"])
    assert "<script" not in page
    links = re.findall(r"""(?:href|src)=["']([^"']*)""", page) + re.findall(r"url\(([^)]*)\)", page)
    assert [link for link in links if not link.startswith(("#", "data:"))] == []


def test_other_labels_and_none(
    clustered: Path, languages: str, small_encoder: Path, capsys: Any
) -> None:
    words = command(languages, small_encoder, clustered, "topics")
    assert main([*words, "--label", "topic"]) == 0
    assert "purity 0.5" in capsys.readouterr().out
    rows = [sample.text for sample in ShardReader(languages)]
    plain = write(clustered / "plain", rows)
    assert main(command(plain, small_encoder, clustered, "unlabelled")) == 0
    record = json.loads((clustered / "unlabelled" / "split.json").read_text())
    assert "purity" not in record
    page = (clustered / "unlabelled" / "report.html").read_text(encoding="utf-8")
    assert "Map by cluster" in page
    assert "Map by label" not in page
    assert main([*command(plain, small_encoder, clustered, "x"), "--label", "topic"]) == 2
    error = capsys.readouterr().err
    assert "error: --label: 240 of 240 samples have no field topic: s0, s1" in error
    assert not (clustered / "x").exists()


def test_a_text_in_other_letters_stays_with_the_first(
    languages: str, small_encoder: Path, tmp_path: Path
) -> None:
    texts = [sample.text for sample in ShardReader(languages)]
    source = write(tmp_path / "source", [*texts, *(f" {text.upper()} " for text in texts)])
    rule = ByClusters(3, str(small_encoder), 48, str(tmp_path / "cache"))
    split = split_source(source, str(tmp_path / "out"), rule, seed=2)
    for name in split.record["parts"]:
        folded = [" ".join(t.casefold().split()) for t in texts_in(tmp_path / "out" / name)]
        assert len(folded) == 2 * len(set(folded))


def test_going_on_needs_no_embeddings(
    clustered: Path, languages: str, small_encoder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    shutil.copytree(clustered / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "cluster-1")
    (tmp_path / "out" / "split.json").unlink()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be embedded")

    monkeypatch.setattr(shifts, "embed_source", never)
    words = command(languages, small_encoder, tmp_path, "out")
    assert main(words) == 0
    for file in (clustered / "out").rglob("*"):
        if file.is_file():
            copy = tmp_path / "out" / file.relative_to(clustered / "out")
            assert copy.read_bytes() == file.read_bytes()


KILLER = """
import os, signal, sys
from headrace.cli import main
from headrace.selection import vector_cache

plain, written = vector_cache.write_rows, []

def deadly(path, start, rows):
    written.append(path.stem)
    if written.count("vectors") == 3:
        plain(path, start, rows[: len(rows) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    plain(path, start, rows)

vector_cache.write_rows = deadly
main(sys.argv[1:])
"""


def test_kill_9_while_embedding(
    clustered: Path, languages: str, small_encoder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    words = command(languages, small_encoder, tmp_path, "out")
    process = subprocess.run(
        [sys.executable, "-c", KILLER, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert not (tmp_path / "out").exists()
    embedded = []
    plain = Encoder.embed

    def noted(self: Encoder, texts: Any, *rest: Any) -> Any:
        embedded.append(len(texts))
        return plain(self, texts, *rest)

    monkeypatch.setattr(Encoder, "embed", noted)
    assert main(words) == 0
    assert embedded == [50, 50, 40]  # the last three of five shards
    for name in ("parts.parquet", "split.json"):
        assert (tmp_path / "out" / name).read_bytes() == (clustered / "out" / name).read_bytes()


def test_a_limit_embeds_so_many_samples_and_keeps_them(
    languages: str, small_encoder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    embedded = []
    plain = shifts.embed_source

    def noted(reader: ShardReader, *rest: Any, **named: Any) -> Any:
        embedded.append(len(reader))
        return plain(reader, *rest, **named)

    monkeypatch.setattr(shifts, "embed_source", noted)
    words = command(languages, small_encoder, tmp_path, "out")
    assert main([*words, "--limit", "80"]) == 0
    assert embedded == [80]
    record = json.loads((tmp_path / "out" / "split.json").read_text())
    assert record["purity"] > 0.9
    assert sum(part["samples"] for part in record["parts"].values()) == 80
    parent = read_manifest(languages).fingerprint
    assert read_manifest(str(tmp_path / "out" / "cluster-0")).parent == parent


def test_what_cannot_be_clustered_is_refused_before_the_work(
    languages: str, small_encoder: Path, tmp_path: Path, capsys: Any
) -> None:
    out = ["split", languages, "--output", str(tmp_path / "out"), "--by", "clusters"]
    model = ["--model", str(small_encoder)]
    for words, says in (
        ([*out, "2"], "--model: clusters are of the embeddings of a model"),
        ([*out, "1", *model], "--by: out of range (value: 1)"),
        ([*out, "241", *model], "--by: more clusters than the 240 samples"),
        ([*out, "9", *model, "--limit", "8"], "--by: more clusters than the 8 samples"),
        ([*out, "2", "--model", str(tmp_path / "no")], "no such tokenizer folder"),
        ([*out, "2", *model, "--max-length", "900"], "--max-length: out of range"),
        ([*out, "2", *model, "--stratify", "label"], "--stratify: it would have no effect"),
        ([*out, "2", *model, "--cache", "s3://bucket/x"], "--cache: "),
    ):
        assert main(words) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_same_text_over_and_over_has_no_clusters(small_encoder: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "source", ["one text"] * 20 + ["another text"] * 20)
    rule = ByClusters(3, str(small_encoder), 48, str(tmp_path / "cache"))
    with pytest.raises(UserError, match="fewer than 3 different"):
        split_source(source, str(tmp_path / "out"), rule)
