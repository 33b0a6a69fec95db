"""One open shard, read many samples at a time, against Python's tarfile."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError, ShardError
from headrace.shards import Sample, Shard, ShardReader, ShardWriter
from headrace.shards.adopt import index_source
from headrace.shards.index import BLOCK_BYTES

Contents = list[tuple[str, dict[str, bytes]]]


def by_tarfile(tar: Path) -> Contents:
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            key, _, field = member.name.partition(".")
            found.setdefault(key, {})[field] = content.read()
    return list(found.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of one shard: samples of two members, of which some are empty, one in two blocks."""
    folder = tmp_path_factory.mktemp("even")
    sizes = np.random.default_rng(3).integers(0, 60_000, 120)
    sizes[::10] = 0
    sizes[50] = BLOCK_BYTES + 5
    with ShardWriter(str(folder)) as writer:
        for number, size in enumerate(sizes.tolist()):
            text = bytes([97 + number % 26]) * size
            writer.write(Sample(f"k{number}", {"txt": text, "json": b"%d" % number}))
    return folder


@pytest.fixture(scope="module")
def even(folder: Path) -> tuple[Shard, Contents]:
    return ShardReader(str(folder)).shard(0), by_tarfile(folder / "shard-000000.tar")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shard, Contents]:
    """Samples of one to three members in any order."""
    folder = tmp_path_factory.mktemp("uneven")
    with tarfile.open(folder / "a.tar", "w") as archive:
        for number in range(60):
            fields = [["txt"], ["json", "txt"], ["txt", "cls", "json"], ["cls"]][number * 7 % 4]
            for field in fields:
                data = f"{field} {number}".encode() * (number % 5)
                member = tarfile.TarInfo(f"ключ{number}.{field}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    index_source(str(folder))
    return ShardReader(str(folder)).shard(0), by_tarfile(folder / "a.tar")


Numbers = st.lists(st.integers(0, 59), max_size=80)


@given(numbers=Numbers)
@pytest.mark.parametrize("kind", ["even", "uneven"])
def test_many_samples_are_those_of_tarfile_in_any_order(
    kind: str, numbers: list[int], request: pytest.FixtureRequest
) -> None:
    shard, contents = request.getfixturevalue(kind)
    samples = shard.read_samples(np.array(numbers, dtype=np.int64))
    assert [(sample.key, sample.fields) for sample in samples] == [contents[n] for n in numbers]
    assert [list(sample.fields) for sample in samples] == [list(contents[n][1]) for n in numbers]
    assert samples == [shard[number] for number in numbers]


@given(numbers=Numbers)
@pytest.mark.parametrize(("kind", "fields"), [("even", ["json", "txt"]), ("uneven", ["txt"])])
def test_fields_of_many_samples_are_those_of_tarfile(
    kind: str, fields: list[str], numbers: list[int], request: pytest.FixtureRequest
) -> None:
    shard, contents = request.getfixturevalue(kind)
    having = [number for number in numbers if set(fields) <= set(contents[number][1])]
    columns = shard.read_many(np.array(having, dtype=np.int64), fields)
    assert columns == [[contents[n][1][field] for n in having] for field in fields]


def test_a_sample_without_the_field_is_named(uneven: tuple[Shard, Contents]) -> None:
    shard, contents = uneven
    lacking = next(n for n, (_, fields) in enumerate(contents) if "txt" not in fields)
    key = contents[lacking][0]
    with pytest.raises(ConfigError, match=rf"sample {key}: the sample has no field txt.*cls"):
        shard.read_many(np.array([0, 1, lacking, 2]), ["txt"])
    with pytest.raises(ConfigError, match="no field wav"):
        shard.read_many(np.array([0]), ["wav"])


@given(numbers=st.lists(st.integers(0, 119), min_size=1, max_size=10), block=st.integers(0, 3))
def test_exactly_the_samples_that_touch_a_bad_block_fail(
    even: tuple[Shard, Contents], flipped: list[Shard], numbers: list[int], block: int
) -> None:
    index, (_, contents) = even[0].index, even
    shard = flipped[block]

    def touches(number: int) -> bool:
        members = range(*index.member_starts[number : number + 2].tolist())
        spans = [(int(index.member_offsets[m]), int(index.member_sizes[m])) for m in members]
        return any(
            size and begin // BLOCK_BYTES <= block <= (begin + size - 1) // BLOCK_BYTES
            for begin, size in spans
        )

    wanted = np.array(numbers, dtype=np.int64)
    if any(map(touches, numbers)):
        with pytest.raises(ShardError, match=rf"offset {block * BLOCK_BYTES}: .*corrupt"):
            shard.read_samples(wanted)
    else:
        found = shard.read_samples(wanted)
        assert [(sample.key, sample.fields) for sample in found] == [contents[n] for n in numbers]


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> list[Shard]:
    """The shard again, with a bit flipped in the block of the same number."""
    shards = []
    for block in range(4):
        copy = tmp_path_factory.mktemp(f"flipped{block}")
        for path in folder.iterdir():
            data = bytearray(path.read_bytes())
            if path.suffix == ".tar":
                data[min((block + 1) * BLOCK_BYTES, len(data)) - 700] ^= 4
            (copy / path.name).write_bytes(data)
        shards.append(ShardReader(str(copy)).shard(0))
    return shards


def test_a_scan_hands_out_what_comes_before_the_bad_bytes(
    flipped: list[Shard], even: tuple[Shard, Contents]
) -> None:
    found: Contents = []
    with pytest.raises(ShardError, match=f"offset {2 * BLOCK_BYTES}"):
        found.extend((sample.key, dict(sample.fields)) for sample in flipped[2])
    assert found == even[1][: len(found)]
    assert len(found) > 40


def test_a_closed_shard_is_opened_again(folder: Path, even: tuple[Shard, Contents]) -> None:
    reader = ShardReader(str(folder))
    first = reader.shard(0)
    reader.close_shard(0)
    reader.close_shard(0)
    assert reader.shard(0) is not first
    assert reader.shard(0)[3].fields == even[1][3][1]
