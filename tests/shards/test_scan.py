from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from headrace.errors import ShardError
from headrace.shards.index import ShardIndex
from headrace.shards.scan import _NAME, scan_tar

LONG = "folder/" + "x" * 150


def tar_of(
    members: list[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT, **attributes: object
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for attribute, value in attributes.items():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def scan(data: bytes) -> ShardIndex:
    return scan_tar(io.BytesIO(data), "s.tar")


def contents(data: bytes, index: ShardIndex) -> list[tuple[str, dict[str, bytes]]]:
    """Samples by plain slicing with the offsets of the index."""
    starts = index.member_starts.tolist()
    return [
        (
            key,
            {
                index.field_names[int(index.member_fields[m])]: data[
                    int(index.member_offsets[m]) : int(index.member_offsets[m])
                    + int(index.member_sizes[m])
                ]
                for m in range(starts[number], starts[number + 1])
            },
        )
        for number, key in enumerate(index.keys)
    ]


@given(st.text(alphabet="ab./_\n", max_size=12))
def test_names_are_split_as_webdataset_splits_them(name: str) -> None:
    match = _NAME.fullmatch(name)
    ours = (match[1], match[2]) if match else (None, None)
    if not name.endswith("\n"):  # their pattern lets a final line feed go
        assert ours == base_plus_ext(name)


@pytest.mark.parametrize(
    ("format", "key"),
    [
        (tarfile.USTAR_FORMAT, "folder/" + "x" * 80),
        (tarfile.GNU_FORMAT, LONG),
        (tarfile.PAX_FORMAT, LONG),
        (tarfile.PAX_FORMAT, "schlüssel-क"),
        (tarfile.GNU_FORMAT, "schlüssel-क"),
    ],
)
def test_every_dialect_of_tar(format: int, key: str) -> None:
    data = tar_of([("a.txt", b"1"), (f"{key}.txt", b"2" * 600), (f"{key}.seg.JSON", b"")], format)
    assert contents(data, scan(data)) == [
        ("a", {"txt": b"1"}),
        (key, {"txt": b"2" * 600, "seg.json": b""}),
    ]


def test_what_webdataset_wrote_and_how_webdataset_reads_it(tmp_path: Path) -> None:
    pattern = str(tmp_path / "out-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=100, verbose=0) as writer:
        for number in range(7):
            writer.write(
                {"__key__": f"ex/{number:03d}", "txt": f"t{number}", "json": {"n": number}}
            )
    path = tmp_path / "out-000000.tar"
    data = path.read_bytes()
    theirs = [
        (row["__key__"], {name: row[name] for name in row if not name.startswith("__")})
        for row in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    assert contents(data, scan(data)) == theirs


def test_gnu_tar_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.txt").write_text(f"text {number}")
        (folder / f"{number}.json").write_text("{}")
    path = tmp_path / "out.tar"
    subprocess.run(["tar", "--sort=name", "-cf", path, "-C", folder, "."], check=True)
    data = path.read_bytes()
    found = contents(data, scan(data))
    assert [key for key, _ in found] == [f"./{number}" for number in range(5)]
    assert found[3][1] == {"json": b"{}", "txt": b"text 3"}


def test_metadata_members_are_passed_over_like_in_webdataset() -> None:
    data = tar_of([("__meta__/x.json", b"{}"), ("a.txt", b"1")])
    assert [key for key, _ in contents(data, scan(data))] == ["a"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar_of([("a.txt", b""), ("b.txt", b""), ("a.json", b"")]), "do not lie together"),
        (tar_of([("a.txt", b""), ("a.txt", b"")]), "two members for field txt"),
        (tar_of([("README", b"")]), "no file extension"),
        (tar_of([(".hidden", b"")]), "no file extension"),
        (tar_of([("a.txt", b"")], type=tarfile.SYMTYPE, linkname="b"), "not a plain file"),
        (tar_of([("a.txt", b"")], type=tarfile.FIFOTYPE), "not a plain file"),
        (tar_of([]), "empty"),
        (gzip.compress(tar_of([("a.txt", b"")])), "compressed with gzip"),
        (b"", "truncated or damaged"),
        (b"not a tar at all" * 100, "truncated or damaged"),
    ],
)
def test_tars_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message) as caught:
        scan(data)
    assert "shard s.tar offset" in caught.value.problems[0].where


def test_interleaved_samples_name_key_and_both_places() -> None:
    data = tar_of([("a.txt", b""), ("b.txt", b""), ("a.json", b"")])
    with pytest.raises(ShardError) as caught:
        scan(data)
    (problem,) = caught.value.problems
    assert problem.value == "a"
    assert problem.where == "shard s.tar offset 1024"
    assert "offset 0" in problem.what


def test_a_tar_cut_anywhere_is_refused() -> None:
    data = tar_of([(f"{number}.txt", bytes([65 + number]) * 700) for number in range(4)])
    end = 4 * (512 + 1024)
    for length in [*range(0, end, 256), end]:
        with pytest.raises(ShardError, match=r"truncated|damaged|empty"):
            scan(data[:length])


def test_a_damaged_header_in_the_middle_is_refused_with_its_offset() -> None:
    data = bytearray(tar_of([(f"{number}.txt", b"x" * 700) for number in range(4)]))
    data[2 * 1536 + 20] ^= 1
    with pytest.raises(ShardError, match="header is damaged") as caught:
        scan(bytes(data))
    assert "offset 3072" in caught.value.problems[0].where
