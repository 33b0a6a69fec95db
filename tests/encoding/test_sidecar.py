from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.encoding import store
from headrace.encoding.alignment import WordAligner
from headrace.encoding.report import SentenceReport
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.store import source_id
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.errors import EncodingError, LabelError, ShardError
from headrace.shards import Sample, ShardReader
from headrace.shards.sample import make_sample
from headrace.tasks.labels import LabelSet, load_label_set

MAX_LENGTH = 14
Encode = Callable[..., EncodedSource]


@pytest.fixture
def samples(
    tagged: Callable[..., list[Sample]], make_words: Callable[..., list[list[str]]]
) -> list[Sample]:
    """14 samples: four shards of 4, 4, 4 and 2."""
    return tagged([*make_words("en", 6), *make_words("zh", 4), [], *make_words("hi", 3)])


@pytest.fixture
def reader(
    samples: list[Sample], write_source: Callable[..., ShardReader], tmp_path: Path
) -> ShardReader:
    return write_source(tmp_path / "source", samples)


@pytest.fixture
def encode(tokenizer: Any, label_set: LabelSet, tmp_path: Path) -> Encode:
    def call(reader: ShardReader, **options: Any) -> EncodedSource:
        encoder = TokenClassificationEncoder(
            tokenizer, label_set, options.pop("max_length", MAX_LENGTH)
        )
        settings = {"cache_dir": tmp_path / "cache", "language": "en"}
        return encode_source(reader, encoder, **{**settings, **options})

    return call


def folders(source: EncodedSource) -> list[Path]:
    return [shard.folder for shard in source.shards]


def content(source: EncodedSource) -> list[list[list[int]]]:
    return [
        [
            view(number).tolist()
            for number in range(len(shard))
            for view in (shard.tokens, shard.labels, shard.word_positions, shard.word_tags)
        ]
        for shard in source.shards
    ]


def test_every_sample_is_what_the_aligner_says(
    reader: ShardReader,
    samples: list[Sample],
    encode: Encode,
    tokenizer: Any,
    label_set: LabelSet,
) -> None:
    source = encode(reader)
    assert source.samples == 14
    assert [len(shard) for shard in source.shards] == [4, 4, 4, 2]
    aligner = WordAligner(tokenizer, MAX_LENGTH)
    places = [(shard, number) for shard in source.shards for number in range(len(shard))]
    total = SentenceReport()
    for (shard, number), sample in zip(places, samples, strict=True):
        words, tags = sample.metadata["tokens"], sample.metadata["tags"]
        batch = aligner.align([words])
        tokens, labels = shard.tokens(number), shard.labels(number)
        positions = shard.word_positions(number)
        assert tokens.tolist() == batch.tokens.tolist()
        assert positions.tolist() == batch.word_positions.tolist()
        assert [label_set.tags[tag] for tag in shard.word_tags(number)] == tags
        labelled = {int(position) for position in positions if position >= 0}
        for position, tag in zip(positions, tags, strict=True):
            if position >= 0:
                assert label_set.tags[labels[position]] == tag
        assert {i for i, label in enumerate(labels) if label != -100} == labelled
        assert shard.lengths[number] == len(tokens) == len(labels)
        assert shard.label_counts[number] == len(labelled)
        assert shard.subset(number) == sample.metadata.get("subset")
        total += SentenceReport(sentences=1, words=len(words), tokens=len(tokens))
    assert source.report.sentences == total.sentences == 14
    assert source.report.words == total.words
    assert source.report.tokens == total.tokens
    assert source.report.words_truncated > 0
    types = [shard.tokens(0).dtype for shard in source.shards]
    assert types == [np.uint16] * 4
    assert source.shards[0].lengths.dtype == source.shards[0].label_counts.dtype == np.int32


def test_opening_again_makes_nothing(
    reader: ShardReader, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(reader)
    monkeypatch.setattr(store, "write_folder", None)
    second = encode(ShardReader(reader.url))
    assert content(second) == content(first)
    assert second.fingerprint == first.fingerprint
    assert second.report == first.report
    assert content(pickle.loads(pickle.dumps(second))) == content(first)


def test_the_fingerprint_follows_what_the_arrays_hold(
    reader: ShardReader, encode: Encode, label_set: LabelSet, tokenizer: Any, tmp_path: Path
) -> None:
    first = encode(reader)
    assert encode(reader, cache_dir=tmp_path / "elsewhere").fingerprint == first.fingerprint
    longer = encode(reader, max_length=MAX_LENGTH + 1)
    assert longer.spec.fingerprint != first.spec.fingerprint
    assert longer.shards[0].folder != first.shards[0].folder
    more = LabelSet("more", (*label_set.types, "Dam"), {**label_set.coarse, "Dam": "LOC"})
    other = encode_source(
        reader,
        TokenClassificationEncoder(tokenizer, more, MAX_LENGTH),
        cache_dir=tmp_path / "cache",
        language="en",
    )
    assert other.spec.fingerprint != first.spec.fingerprint


def test_a_relative_path_is_the_same_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_id("a/b") == source_id(f"{tmp_path}/a/b/") == source_id(f"file://{tmp_path}/a/b")
    assert source_id("s3://bucket/en") != source_id("s3://bucket/fr")


@pytest.mark.parametrize(
    "damage",
    [
        "flip",
        "truncate",
        "empty",
        "remove",
        "no meta",
        "meta is no JSON",
        "meta is a list",
        "pickle",
    ],
)
def test_a_damaged_sidecar_is_made_again_with_a_warning(
    damage: str, reader: ShardReader, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    first = encode(reader)
    expected = content(first)
    inodes = [folder.stat().st_ino for folder in folders(first)]
    folder = first.shards[1].folder
    file = folder / "labels.npy"
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "remove":
        file.unlink()
    elif damage == "no meta":
        (folder / "meta.json").unlink()
    elif damage == "pickle":
        with file.open("wb") as handle:
            np.save(handle, np.array([{}], dtype=object), allow_pickle=True)
    else:
        (folder / "meta.json").write_text("{" if damage == "meta is no JSON" else "[]")
    with caplog.at_level(logging.WARNING):
        second = encode(reader)
    assert content(second) == expected
    assert first.shards[1].name in caplog.text
    changed = [
        folder.stat().st_ino != inode for folder, inode in zip(folders(second), inodes, strict=True)
    ]
    assert changed == [False, True, False, False]


def test_only_changed_shards_are_made_again(
    reader: ShardReader,
    samples: list[Sample],
    encode: Encode,
    write_source: Callable[..., ShardReader],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = encode(reader)
    inodes = [folder.stat().st_ino for folder in folders(first)]
    metadata = {**samples[5].metadata, "tokens": ["changed"], "tags": ["O"]}
    samples[5] = make_sample(samples[5].key, "changed", metadata)
    changed = write_source(tmp_path / "source", samples, overwrite=True)
    with caplog.at_level(logging.WARNING):
        second = encode(changed)
    assert "shard_hash has changed" in caplog.text
    assert len(second.shards[1].word_tags(1)) == 1
    kept = [
        folder.stat().st_ino == inode for folder, inode in zip(folders(second), inodes, strict=True)
    ]
    assert kept == [True, False, True, True]
    assert second.fingerprint != first.fingerprint


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from headrace.encoding import store
from headrace.encoding.sidecar import encode_source
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.encoding.tokenizer import load_tokenizer
from headrace.shards import ShardReader
from headrace.tasks.labels import parse_label_set

source, cache, tokenizer, mode, number = sys.argv[1:]
labels = parse_label_set('{"name": "test", "types": {"River": "LOC", "Mill": "LOC"}}', "test")
if mode == "kill":
    # Die while the second shard is half written: two of its arrays are on the disk.
    save, saved = store.np.save, []
    def dying(file, array, **options):
        saved.append(file.name)
        if len(saved) == 8 + 3:
            os.kill(os.getpid(), signal.SIGKILL)
        save(file, array, **options)
    store.np.save = dying
else:
    write = store.write_folder
    def logged(folder, arrays, meta):
        print(folder.name, flush=True)
        write(folder, arrays, meta)
    store.write_folder = logged
fast = load_tokenizer(tokenizer)
if mode == "race":
    # Every process is ready before any of them begins.
    Path(cache, f"ready-{number}").touch()
    while len(list(Path(cache).glob("ready-*"))) < 2:
        time.sleep(0.01)
encoder = TokenClassificationEncoder(fast, labels, 14)
encode_source(ShardReader(source), encoder, cache_dir=cache, language="en")
"""


def start(reader: ShardReader, cache: Path, tokenizer: Any, mode: str, number: int = 0) -> Any:
    arguments = [reader.url, cache, tokenizer.name_or_path, mode, number]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_killed_in_the_middle_it_goes_on(
    reader: ShardReader, encode: Encode, tokenizer: Any, tmp_path: Path
) -> None:
    expected = content(encode(reader, cache_dir=tmp_path / "undisturbed"))
    process = start(reader, tmp_path / "cache", tokenizer, "kill")
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    left = sorted(path.name for path in tmp_path.glob("cache/*/*/*") if path.is_dir())
    assert len(left) == 2
    assert left[0].startswith(".shard-000001.part-")
    first = next(tmp_path.glob("cache/*/*/shard-000000"))
    inode = first.stat().st_ino

    source = encode(reader)
    assert content(source) == expected
    assert first.stat().st_ino == inode
    assert not list(tmp_path.glob("cache/*/*/.*"))


def test_processes_at_once_make_each_shard_once(
    reader: ShardReader, encode: Encode, tokenizer: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    processes = [start(reader, cache, tokenizer, "race", number) for number in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    made = sorted(name for output, _ in outputs for name in output.split())
    assert made == [f"shard-{number:06d}" for number in range(4)]
    assert content(encode(reader)) == content(encode(reader, cache_dir=tmp_path / "other"))


def test_problems_of_all_shards_come_at_once_and_good_shards_are_kept(
    write_source: Callable[..., ShardReader], encode: Encode, tmp_path: Path
) -> None:
    def sample(number: int, tag: str) -> Sample:
        return make_sample(f"s{number}", "x", {"tokens": ["river"], "tags": [tag]})

    tags = ["O", "O", "B-Lake", "O", "B-Lake", "I-Pond", "O", "O"]
    reader = write_source(
        tmp_path / "source", [sample(*pair) for pair in enumerate(tags)], samples_per_shard=2
    )
    with pytest.raises(LabelError) as caught:
        encode(reader)
    values = [problem.value for problem in caught.value.problems]
    assert values == ["B-Lake", "I-Pond"]
    assert "shard-000001.tar sample s2 (and 1 more words)" in str(caught.value)
    made = [path.name for path in tmp_path.glob("cache/*/*/*") if path.is_dir()]
    assert made == ["shard-000000"]


def test_a_damaged_shard_is_an_error_and_the_others_are_encoded(
    reader: ShardReader, encode: Encode, tmp_path: Path
) -> None:
    tar = sorted((tmp_path / "source").glob("*.tar"))[2]
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.chmod(0o644)
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=tar.name):
        encode(ShardReader(reader.url))
    made = sorted(path.name for path in tmp_path.glob("cache/*/*/*") if path.is_dir())
    assert made == ["shard-000000", "shard-000001", "shard-000003"]


def test_a_cache_that_cannot_be_written_is_an_error(
    reader: ShardReader, encode: Encode, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EncodingError, match="cannot be written"):
        encode(reader, cache_dir=tmp_path / "file")


def test_samples_outside_a_shard_are_refused(reader: ShardReader, encode: Encode) -> None:
    shard = encode(reader).shards[0]
    for number in (-1, 4):
        with pytest.raises(IndexError):
            shard.tokens(number)


def test_an_array_that_is_replaced_under_a_run_is_an_error(
    reader: ShardReader, encode: Encode
) -> None:
    source = encode(reader)
    meta = json.loads((source.shards[0].folder / "meta.json").read_text())
    assert meta["arrays"]["word_tags"]["dtype"] == "int16"
    np.save(source.shards[0].folder / "word_tags.npy", np.zeros(3, dtype=np.int16))
    with pytest.raises(EncodingError, match="has changed"):
        source.shards[0].word_tags(0)


def test_a_source_without_words_can_be_opened(
    write_source: Callable[..., ShardReader], encode: Encode, tmp_path: Path
) -> None:
    samples = [make_sample(f"s{i}", "", {"tokens": [], "tags": []}) for i in range(2)]
    shard = encode(write_source(tmp_path / "empty", samples)).shards[0]
    assert shard.tokens(1).tolist() == [0, 2]
    assert shard.word_tags(1).tolist() == []
    assert shard.label_counts.tolist() == [0, 0]


@pytest.mark.skipif("HEADRACE_DATA" not in os.environ, reason="HEADRACE_DATA is not set")
def test_a_real_corpus_is_encoded_without_loss(
    write_source: Callable[..., ShardReader], bert: Any, tmp_path: Path
) -> None:
    from headrace.corpus.readers import read

    path = Path(os.environ["HEADRACE_DATA"], "multiconer_v2", "sv_dev.conll")
    reader = write_source(tmp_path / "sv", list(read(str(path))), samples_per_shard=500)
    source = encode_source(
        reader,
        TokenClassificationEncoder(bert, load_label_set("multiconer_v2"), 512),
        cache_dir=tmp_path / "cache",
        language="sv",
    )
    assert source.report.is_complete
    assert (source.report.sentences, source.report.words) == (856, 11_286)
    assert source.report.entities == 1_391
