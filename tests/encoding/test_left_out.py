"""Shards that a run goes on without."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.errors import LabelError, ShardError
from headrace.shards import Sample, ShardReader
from headrace.shards.sample import make_sample
from headrace.tasks.labels import LabelSet


@pytest.fixture
def reader(
    tagged: Callable[..., list[Sample]],
    make_words: Callable[..., list[list[str]]],
    write_source: Callable[..., ShardReader],
    tmp_path: Path,
) -> ShardReader:
    """14 samples: four shards of 4, 4, 4 and 2."""
    return write_source(tmp_path / "source", tagged(make_words("en", 14)))


@pytest.fixture
def encode(tokenizer: Any, label_set: LabelSet, tmp_path: Path) -> Callable[..., EncodedSource]:
    def call(reader: ShardReader, **options: Any) -> EncodedSource:
        return encode_source(
            reader,
            TokenClassificationEncoder(tokenizer, label_set, 14),
            cache_dir=tmp_path / "cache",
            language="en",
            **options,
        )

    return call


def damaged(reader: ShardReader, number: int) -> ShardReader:
    """The source opened anew, as by another process, with a bit of a shard flipped."""
    path = Path(reader.url) / reader.manifest.shards[number].name
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    return ShardReader(reader.url)


def test_a_damaged_shard_is_refused_unless_quarantine_is_asked_for(
    reader: ShardReader, encode: Callable[..., EncodedSource], caplog: pytest.LogCaptureFixture
) -> None:
    whole = encode(reader, bad_shards="quarantine")
    assert whole.left_out == frozenset()
    reader = damaged(reader, 1)
    for path in whole.shards[1].folder.iterdir():
        path.unlink()
    with pytest.raises(ShardError, match=r"shard-000001\.tar offset 0"):
        encode(reader)
    with caplog.at_level(logging.WARNING):
        source = encode(reader, bad_shards="quarantine")
    assert "shard-000001.tar is left out" in caplog.text
    assert source.left_out == {1}
    assert [len(shard) for shard in source.shards] == [4, 4, 4, 2]
    assert source.samples == whole.samples
    assert source.fingerprint == whole.fingerprint
    intact = [shard for number, shard in enumerate(source.shards) if number != 1]
    assert source.report.sentences == sum(shard.report.sentences for shard in intact) == 10
    # It is planned with as if it had samples like the others, of which none is learned from.
    lengths = np.concatenate([shard.lengths for shard in intact])
    assert source.shards[1].lengths.tolist() == lengths[:4].tolist()
    assert source.shards[1].lengths.dtype == np.int32
    assert source.shards[1].label_counts.tolist() == [0, 0, 0, 0]
    with pytest.raises(LookupError, match="is left out"):
        source.shards[1].tokens(0)


def test_what_stays_out_depends_only_on_which_shards_do(
    reader: ShardReader, encode: Callable[..., EncodedSource]
) -> None:
    """A rank that could read a shard, one that could not, and a later start agree."""
    whole = encode(reader)
    reader = damaged(reader, 2)
    for path in whole.shards[2].folder.iterdir():
        path.unlink()
    found = encode(reader, bad_shards="quarantine").leaving_out([0])
    told = whole.leaving_out([0, 2])
    known = encode(reader, left_out=[2]).leaving_out([0, 2])
    for source in (told, known):
        assert source.left_out == found.left_out == {0, 2}
        for one, other in zip(source.shards, found.shards, strict=True):
            assert one.lengths.tolist() == other.lengths.tolist()
            assert one.label_counts.tolist() == other.label_counts.tolist()
    assert whole.left_out == frozenset()
    assert whole.leaving_out([]) is whole


def test_a_source_of_which_nothing_is_left_is_refused(
    reader: ShardReader, encode: Callable[..., EncodedSource]
) -> None:
    for number in range(4):
        reader = damaged(reader, number)
    with pytest.raises(ShardError, match="no shard is intact"):
        encode(reader, bad_shards="quarantine")


def test_wrong_labels_are_no_damage(
    tagged: Callable[..., list[Sample]],
    make_words: Callable[..., list[list[str]]],
    write_source: Callable[..., ShardReader],
    encode: Callable[..., EncodedSource],
    tmp_path: Path,
) -> None:
    samples = tagged(make_words("en", 6))
    bad = samples[1]
    metadata = {**bad.metadata, "tags": ["B-Bridge"] + ["O"] * (len(bad.metadata["tokens"]) - 1)}
    samples[1] = make_sample(bad.key, bad.text, metadata)
    with pytest.raises(LabelError, match="Bridge"):
        encode(write_source(tmp_path / "wrong", samples), bad_shards="quarantine")
