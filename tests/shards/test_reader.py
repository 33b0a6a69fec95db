from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import ShardError
from headrace.shards import Manifest, Sample, ShardReader, build_index
from headrace.shards.index import BLOCK_BYTES
from headrace.shards.reader import _OPEN_SHARDS

WriteSource = Callable[..., Manifest]
MakeSamples = Callable[..., list[Sample]]


def problems_of(url: object) -> list[str]:
    """All that is wrong, by opening and then reading the whole source."""
    with pytest.raises(ShardError) as caught:
        list(ShardReader(str(url)))
    return [str(problem) for problem in caught.value.problems]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("where", ["local", "file", "memory"])
def test_samples_come_back_in_order(
    where: str, tmp_path: Path, write_source: WriteSource, make_samples: MakeSamples
) -> None:
    url = {
        "local": str(tmp_path / "a"),
        "file": f"file://{tmp_path}/a",
        "memory": f"memory://{tmp_path.name}/a",
    }[where]
    write_source(url)
    with ShardReader(url) as reader:
        assert len(reader) == 50
        assert list(reader) == make_samples(50)
        assert [len(reader.shard(number)) for number in range(3)] == [20, 20, 10]


def test_random_access_and_keys(source: Path, make_samples: MakeSamples) -> None:
    samples = make_samples(50)
    reader = ShardReader(str(source))
    order = list(range(50))
    random.Random(1).shuffle(order)
    for number in order:
        assert reader.shard(number // 20)[number % 20] == samples[number]
    assert reader.shard(2)[-1] == samples[49]
    assert reader.shard(1).keys == [sample.key for sample in samples[20:40]]
    with pytest.raises(IndexError):
        reader.shard(2)[10]
    with pytest.raises(IndexError):
        reader.shard(3)


def test_a_reader_travels_to_another_process(source: Path) -> None:
    reader = ShardReader(str(source))
    first = reader.shard(0)[0]
    assert pickle.loads(pickle.dumps(reader)).shard(0)[0] == first


def test_more_shards_than_may_be_open(tmp_path: Path, write_source: WriteSource) -> None:
    write_source(tmp_path / "many", _OPEN_SHARDS + 10, 1)
    reader = ShardReader(str(tmp_path / "many"))
    kept = reader.shard(0)
    assert len(list(reader)) == _OPEN_SHARDS + 10
    assert kept[0].key == "k00000"


def test_missing_shards_and_indexes_are_all_listed_when_opening(source: Path) -> None:
    (source / "shard-000000.tar").unlink()
    (source / "shard-000001.idx").unlink()
    with (source / "shard-000002.tar").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ShardError) as caught:
        ShardReader(str(source))
    first, second, third = (str(problem) for problem in caught.value.problems)
    assert "shard-000000.tar: the shard is missing" in first
    assert "shard-000001.tar: its index is missing" in second
    assert "headrace index" in second
    assert "shard-000002.tar offset 1000: the shard is truncated" in third


@pytest.mark.parametrize("remote", [False, True])
def test_every_corrupt_block_is_found_on_first_read(
    big_source: Path, tmp_path: Path, remote: bool
) -> None:
    tar = big_source / "shard-000000.tar"
    assert tar.stat().st_size > 3 * BLOCK_BYTES
    url = str(big_source)
    intact = list(ShardReader(url))
    begins = ShardReader(url).shard(0).index.member_offsets.tolist()
    for block in range(3):
        position = next(begin for begin in begins if begin > block * BLOCK_BYTES + 700_000)
        flip(tar, position)
        if remote:
            url = f"memory://{tmp_path.name}/{block}"
            copy_to_memory(big_source, url)
        (message,) = problems_of(url)
        assert f"shard shard-000000.tar offset {block * BLOCK_BYTES}:" in message
        assert "corrupt" in message
        assert "Copy the shard again" in message
        assert list(ShardReader(url, verify=False)) != intact
        flip(tar, position)


def test_a_corrupt_block_does_not_hide_the_others(big_source: Path) -> None:
    flip(big_source / "shard-000000.tar", 2 * BLOCK_BYTES + 5)
    shard = ShardReader(str(big_source)).shard(0)
    begins = shard.index.sample_offsets.tolist()
    bad = [
        number
        for number in range(len(shard))
        if begins[number] < 3 * BLOCK_BYTES and begins[number + 1] > 2 * BLOCK_BYTES
    ]
    for number in range(len(shard)):
        if number < bad[0] or number > bad[-1]:
            assert shard[number].metadata["number"] == number
    for number in bad[1:-1]:
        for _ in range(2):
            with pytest.raises(ShardError, match="corrupt"):
                shard[number]


def test_a_block_is_hashed_once(big_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.shards import tars as module

    checked: list[int] = []
    check = module.check_block

    def counting(data: bytes, block: int, *rest: object) -> None:
        checked.append(block)
        check(data, block, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "check_block", counting)
    reader = ShardReader(str(big_source))
    for _ in range(2):
        list(reader)
    blocks = len(reader.shard(0).index.block_hashes)
    assert sorted(checked) == list(range(blocks))


def test_an_index_of_another_tar(source: Path) -> None:
    shutil.copy(source / "shard-000000.idx", source / "shard-000001.idx")
    messages = problems_of(source)
    assert any("differ in the hash of the tar" in message for message in messages)


def test_a_tar_that_was_replaced_and_indexed_again_is_not_the_manifests(
    source: Path, tmp_path: Path, write_source: WriteSource
) -> None:
    # Same size, other content, its own good index: only the manifest can tell.
    tar = source / "shard-000001.tar"
    data = tar.read_bytes()
    tar.write_bytes(data.replace(b"rd12", b"rd13"))
    build_index(str(tar))
    assert tar.stat().st_size == len(data)
    (message,) = problems_of(source)
    assert "the index and the manifest differ in the hash of the tar" in message


def test_a_damaged_index(source: Path) -> None:
    flip(source / "shard-000000.idx", 60)
    (message,) = problems_of(source)
    assert "shard-000000.idx: the index is damaged" in message


def test_truncation_after_opening_is_seen(source: Path) -> None:
    reader = ShardReader(str(source))
    with (source / "shard-000000.tar").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(ShardError, match=r"offset 4096: the shard is truncated"):
        reader.shard(0)


@pytest.mark.parametrize("verify", [False, True])
def test_remote_truncation_after_opening_is_seen(
    big_source: Path, tmp_path: Path, verify: bool
) -> None:
    import fsspec

    url = f"memory://{tmp_path.name}/cut"
    copy_to_memory(big_source, url)
    reader = ShardReader(url, verify=verify)
    filesystem, path = fsspec.url_to_fs(f"{url}/shard-000000.tar")
    filesystem.pipe_file(path, filesystem.cat_file(path)[: BLOCK_BYTES + 100])
    with pytest.raises(ShardError, match="truncated"):
        list(reader)


def copy_to_memory(folder: Path, url: str) -> None:
    from headrace.shards import storage

    for path in folder.iterdir():
        storage.write_atomically(storage.join(url, path.name), path.read_bytes())
