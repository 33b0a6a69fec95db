from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ShardError
from headrace.shards import ShardIndex, build_index
from headrace.shards.index import BLOCK_BYTES, BlockHasher, read_index


def test_index_agrees_with_tarfile(source: Path) -> None:
    tar = source / "shard-000000.tar"
    index = read_index(str(tar))
    data = tar.read_bytes()
    with tarfile.open(tar) as archive:
        members = archive.getmembers()
        assert index.member_offsets.tolist() == [member.offset_data for member in members]
        assert index.member_sizes.tolist() == [member.size for member in members]
        assert index.sample_offsets.tolist()[:-1] == [member.offset for member in members[::2]]
        assert index.keys == [member.name.partition(".")[0] for member in members[::2]]
    assert index.tar_hash == xxhash.xxh3_128_hexdigest(data)
    assert index.tar_bytes == len(data)
    assert index.field_names == ("json", "txt")


def test_writer_and_scan_make_the_same_index(source: Path) -> None:
    tar = source / "shard-000001.tar"
    written = tar.with_suffix(".idx").read_bytes()
    tar.with_suffix(".idx").unlink()
    build_index(str(tar))
    assert tar.with_suffix(".idx").read_bytes() == written


def test_index_is_small(big_source: Path) -> None:
    index = read_index(str(big_source / "shard-000000.tar"))
    size = (big_source / "shard-000000.idx").stat().st_size
    assert (size - len(index.key_bytes) - 700) / len(index) <= 30


def test_round_trip_through_bytes(source: Path) -> None:
    data = (source / "shard-000000.idx").read_bytes()
    index = ShardIndex.from_bytes(data, "x")
    assert index.to_bytes() == data


@settings(max_examples=40)
@given(st.data())
def test_any_damage_to_an_index_is_seen(data: st.DataObject) -> None:
    index = ShardIndex(
        tar_bytes=2048,
        tar_hash="0" * 32,
        field_names=("txt",),
        sample_offsets=np.array([0, 1024], dtype=np.uint64),
        member_starts=np.array([0, 1], dtype=np.uint64),
        member_offsets=np.array([512], dtype=np.uint64),
        member_sizes=np.array([5], dtype=np.uint64),
        member_fields=np.array([0], dtype=np.uint64),
        key_ends=np.array([1], dtype=np.uint64),
        key_bytes=b"a",
        block_hashes=np.array([7], dtype=np.uint64),
    ).to_bytes()
    position = data.draw(st.integers(0, len(index) - 1))
    if data.draw(st.booleans()):
        broken = index[:position]
    else:
        mask = data.draw(st.integers(1, 255))
        broken = index[:position] + bytes([index[position] ^ mask]) + index[position + 1 :]
    with pytest.raises(ShardError, match="index is damaged"):
        ShardIndex.from_bytes(broken, "a.idx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member_sizes": np.array([9999], dtype=np.uint64)}, "behind the end"),
        ({"member_fields": np.array([3], dtype=np.uint64)}, "unknown field"),
        ({"sample_offsets": np.array([1024, 0], dtype=np.uint64)}, "do not rise"),
        ({"member_starts": np.array([0, 2], dtype=np.uint64)}, "do not rise"),
        ({"key_bytes": b"abc"}, "keys have another length"),
        ({"block_hashes": np.array([], dtype=np.uint64)}, "different lengths"),
    ],
)
def test_an_index_with_a_good_checksum_must_be_consistent_too(
    change: dict[str, object], message: str
) -> None:
    parts: dict[str, object] = {
        "tar_bytes": 2048,
        "tar_hash": "0" * 32,
        "field_names": ("txt",),
        "sample_offsets": np.array([0, 1024], dtype=np.uint64),
        "member_starts": np.array([0, 1], dtype=np.uint64),
        "member_offsets": np.array([512], dtype=np.uint64),
        "member_sizes": np.array([5], dtype=np.uint64),
        "member_fields": np.array([0], dtype=np.uint64),
        "key_ends": np.array([1], dtype=np.uint64),
        "key_bytes": b"a",
        "block_hashes": np.array([7], dtype=np.uint64),
    }
    data = ShardIndex(**{**parts, **change}).to_bytes()  # type: ignore[arg-type]
    with pytest.raises(ShardError, match=message):
        ShardIndex.from_bytes(data, "a.idx")


@given(st.lists(st.binary(max_size=5000), max_size=20), st.integers(0, 2))
def test_block_hashes_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes], more: int) -> None:
    data = b"".join(pieces) + bytes(more * (BLOCK_BYTES // 2))
    sink = io.BytesIO()
    hasher = BlockHasher(sink.write)
    for piece in [*pieces, bytes(more * (BLOCK_BYTES // 2))]:
        hasher.write(piece)
    assert sink.getvalue() == data
    assert hasher.digest() == xxhash.xxh3_128_hexdigest(data)
    assert hasher.blocks() == [
        xxhash.xxh3_64_intdigest(data[start : start + BLOCK_BYTES])
        for start in range(0, len(data), BLOCK_BYTES)
    ]
