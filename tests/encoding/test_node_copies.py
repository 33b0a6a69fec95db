"""Copies of encoded arrays on a disk of the node."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.encoding import node_copies, store
from headrace.encoding.node_copies import copy_to_node
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.errors import StopRequested
from headrace.tasks.labels import load_label_set


@pytest.fixture(autouse=True)
def no_copies_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_copies", {})


@pytest.fixture
def source(small_corpus: Any, tmp_path: Path) -> EncodedSource:
    """Four shards of the small corpus, with a cache of their own."""
    from headrace.encoding.token_classification import TokenClassificationEncoder
    from headrace.encoding.tokenizer import load_tokenizer
    from headrace.shards import ShardReader

    tokenizer = load_tokenizer(str(small_corpus.tokenizer))
    encoder = TokenClassificationEncoder(tokenizer, load_label_set("multiconer_v2"), 48)
    reader = ShardReader(small_corpus.source("en", "train"))
    return encode_source(reader, encoder, cache_dir=tmp_path / "cache", language="en")


def tokens_of(source: EncodedSource) -> list[list[int]]:
    return [
        shard.tokens(number).tolist() for shard in source.shards for number in range(len(shard))
    ]


def test_arrays_are_read_from_the_copies(source: EncodedSource, tmp_path: Path) -> None:
    before = tokens_of(source)
    ticks: list[None] = []
    copied = copy_to_node(source.shards, tmp_path / "node", lambda: ticks.append(None))
    assert copied == len(source.shards) == 4
    assert len(ticks) >= 4
    shutil.rmtree(tmp_path / "cache")
    store._mapped.cache_clear()
    assert tokens_of(source) == before, "nothing is read from the shared folder any more"


def test_what_is_there_is_not_copied_again(source: EncodedSource, tmp_path: Path) -> None:
    assert copy_to_node(source.shards, tmp_path / "node", lambda: None) == 4
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "node").rglob("*.npy")}
    assert times
    assert copy_to_node(source.shards, tmp_path / "node", lambda: None) == 4
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "node").rglob("*.npy")} == times


def test_a_copy_that_is_not_what_was_encoded_is_not_read(
    source: EncodedSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = tokens_of(source)
    path = source.shards[2].folder / "labels.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)  # as if it was damaged on the way
    with caplog.at_level(logging.WARNING):
        assert copy_to_node(source.shards, tmp_path / "node", lambda: None) == 2
    assert "array labels is corrupt" in caplog.text
    assert tokens_of(source) == before
    made = source.shards[2].meta["made"]
    assert not (tmp_path / "node" / "encoded" / made).exists()


def test_without_room_the_shared_files_are_read(
    source: EncodedSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(node_copies, "_KEPT_FREE", 1.0)
    before = tokens_of(source)
    with caplog.at_level(logging.WARNING):
        assert copy_to_node(source.shards, tmp_path / "node", lambda: None) == 0
    assert "no room for more copies" in caplog.text
    assert tokens_of(source) == before


def test_where_nothing_can_be_written_the_shared_files_are_read(
    source: EncodedSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert copy_to_node(source.shards, tmp_path / "file" / "node", lambda: None) == 0
    assert "shared files are read" in caplog.text
    assert np.sum(source.shards[0].token_counts) > 0


def test_a_stop_breaks_it_off(source: EncodedSource, tmp_path: Path) -> None:
    def stop() -> None:
        raise StopRequested

    with pytest.raises(StopRequested):
        copy_to_node(source.shards, tmp_path / "node", stop)


def _copy(source: EncodedSource, scratch: Path, copied: Any) -> None:
    copied.value = copy_to_node(source.shards, scratch, lambda: None)


def test_several_ranks_share_the_work(source: EncodedSource, tmp_path: Path) -> None:
    """Each shard is copied once, and all ranks read all copies."""
    context = multiprocessing.get_context("fork")
    counts = [context.Value("i", 0) for _ in range(3)]
    ranks = [
        context.Process(target=_copy, args=(source, tmp_path / "node", count)) for count in counts
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [count.value for count in counts] == [4, 4, 4]
    folders = [path for path in (tmp_path / "node" / "encoded").iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {shard.meta["made"] for shard in source.shards}
