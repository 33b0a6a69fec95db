"""Removed samples are overwritten at their length, and a kill at any moment leaves no damage."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import ShardError
from headrace.shards import Manifest, Sample, ShardReader, reader
from headrace.shards.manifest import read_manifest
from headrace.shards.overwrite import changing, is_interrupted, overwrite_removed
from headrace.shards.tombstones import Removed, add_tombstones
from headrace.shards.verify import verify_source
from headrace.stream.sources import manifest_source
from tests.killed import killed_at

GONE = {"shard-000000.tar": [0, 7, 19], "shard-000002.tar": [4]}


def remove(url: str, gone: dict[str, list[int]]) -> list[Sample]:
    """Tombstones for these; the samples that they were."""
    reader = ShardReader(url)
    numbers = {entry.name: n for n, entry in enumerate(reader.manifest.shards)}
    samples = [reader.shard(numbers[name])[n] for name, some in gone.items() for n in some]
    places = [(name, n) for name, some in gone.items() for n in some]
    add_tombstones(
        url, [Removed(*place, sample.key) for place, sample in zip(places, samples, strict=True)]
    )
    return samples


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def assert_overwritten(folder: Path, removed: list[Sample], living: list[Sample]) -> None:
    content = bytes_of(folder)
    for sample in removed:
        for data in sample.fields.values():
            assert data not in content
    assert list(ShardReader(str(folder))) == living
    assert not verify_source(str(folder)).problems
    assert not is_interrupted(str(folder))


def test_removed_bytes_are_gone_and_nothing_else_has_changed(source: Path) -> None:
    before = read_manifest(str(source))
    sizes = {path.name: path.stat().st_size for path in source.glob("*.tar")}
    removed = remove(str(source), GONE)
    living = list(ShardReader(str(source)))
    with changing(str(source)):
        assert overwrite_removed(str(source)) == list(GONE)
        assert overwrite_removed(str(source)) == []
    assert_overwritten(source, removed, living)
    after = read_manifest(str(source))
    assert sizes == {path.name: path.stat().st_size for path in source.glob("*.tar")}
    assert after.fingerprint != before.fingerprint == after.identity
    assert manifest_source("en", "u", after) == manifest_source("en", "u", before)
    assert after.takedown is not None
    assert after.takedown.shards["shard-000000.tar"].former == (before.shards[0].hash,)
    more = remove(str(source), {"shard-000000.tar": [5]})
    living.remove(more[0])
    assert overwrite_removed(str(source)) == ["shard-000000.tar"]
    assert_overwritten(source, [*removed, *more], living)
    assert read_manifest(str(source)).identity == before.fingerprint


def test_stock_readers_find_samples_that_say_nothing(source: Path) -> None:
    wds = pytest.importorskip("webdataset")
    remove(str(source), GONE)
    overwrite_removed(str(source))
    found = list(wds.WebDataset(str(source / "shard-000000.tar"), shardshuffle=False).decode())
    assert len(found) == 20
    assert found[7]["json"] == {"removed": True}
    assert not found[7]["txt"].strip()


def test_who_has_a_shard_mapped_goes_on_with_the_old_bytes(big_source: Path) -> None:
    """A shard is replaced as a whole: what was not read yet is never half old and half new."""
    reader = ShardReader(str(big_source))
    whole = [reader.shard(0)[number] for number in range(3)]
    numbers = list(range(0, 300, 3))
    remove(str(big_source), {"shard-000000.tar": numbers})
    overwrite_removed(str(big_source))
    shard = reader.shard(0)
    everything = shard.read_samples(np.arange(300))  # blocks that are read for the first time
    assert everything[:3] == whole
    assert reader.refresh()
    assert {s.key for s in reader.shard(0).read_samples(np.arange(300))} == {
        sample.key for number, sample in enumerate(everything) if number % 3
    }


def test_a_shard_that_is_damaged_is_not_touched(source: Path) -> None:
    remove(str(source), GONE)
    path = source / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="not intact"):
        overwrite_removed(str(source))
    assert path.read_bytes() == data
    assert not list(source.glob(".*part"))


def test_a_source_is_opened_before_it_is_overwritten_and_read_after(source: Path) -> None:
    remove(str(source), GONE)
    opened = ShardReader(str(source))
    overwrite_removed(str(source))
    assert len(list(opened)) == 46


def test_two_processes_do_not_remove_at_once(source: Path) -> None:
    with (
        changing(str(source)),
        pytest.raises(ShardError, match="another process"),
        changing(str(source)),
    ):
        pass


def test_a_source_on_a_store_is_rewritten(write_source: Callable[..., Manifest]) -> None:
    url = "memory://overwrite/en"
    write_source(url, 50, 20)
    removed = remove(url, GONE)
    living = list(ShardReader(url))
    assert overwrite_removed(url) == list(GONE)
    import fsspec

    store = fsspec.filesystem("memory")
    content = b"".join(store.cat(path) for path in store.find("/overwrite/en"))
    assert not any(data in content for s in removed for data in s.fields.values())
    assert list(ShardReader(url)) == living
    assert not verify_source(url).problems


def changes_a_file(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file is opened to be written, renamed or deleted."""
    return event in ("os.rename", "os.remove") or (event == "open" and "w" in str(arguments[1]))


def tells_what_to_do(folder: Path) -> bool:
    """Whether the source is refused; then the message must not lead astray."""
    try:
        list(ShardReader(str(folder)))
    except ShardError as error:
        return "was broken off" in str(error) and "headrace remove" in str(error)
    return False


def test_a_kill_at_any_moment_is_repaired_by_a_second_run(
    tmp_path: Path, write_source: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_OVERWRITING_SECONDS", 0.0)
    kills = refused = 0
    for event in range(1, 60):
        folder = tmp_path / f"source-{event}"
        write_source(folder, 50, 20)
        removed = remove(str(folder), GONE)
        whole = {sample.key: sample for sample in ShardReader(str(folder))}
        work = partial(overwrite_removed, str(folder))
        if not killed_at(event, work, changes_a_file):
            break
        kills += 1
        # What is served meanwhile is intact and living, or refused with what to do.
        with suppress(ShardError):
            for sample in ShardReader(str(folder)):
                assert whole[sample.key] == sample
        if is_interrupted(str(folder)):
            refused += tells_what_to_do(folder)
        if random.Random(event).random() < 0.5:  # and the second one is killed, too
            killed_at(1 + event % 5, work, changes_a_file)
        overwrite_removed(str(folder))
        assert_overwritten(folder, removed, list(whole.values()))
    assert kills > 8
    assert refused
