from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import webdataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from headrace.errors import Problem, ShardError
from headrace.shards.headers import read_members
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
        (gzip.compress(tar_of([("a.txt", b"")]), mtime=0), "compressed with gzip"),
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


@pytest.mark.parametrize(
    "name",
    ["../a.txt", "a/../../b.txt", "/etc/a.txt", "//a.txt", "..", "a/..", "../", "/"],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_names_that_lead_out_of_the_folder(name: str, kind: bytes) -> None:
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = tar_of([("ok.txt", b"1")])[:1024] + tar_of([(name, b"")], format, type=kind)
        with pytest.raises(ShardError, match="leads out of the folder") as caught:
            scan(data)
        assert caught.value.problems[0].where == "shard s.tar offset 1024"
        assert caught.value.problems[0].value == name.rstrip("/") + "/" * (
            kind == tarfile.DIRTYPE or name.endswith("/")
        )


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "fifo"),
        (tarfile.GNUTYPE_SPARSE, "sparse file"),
        (b"V", "b'V'"),
    ],
)
def test_members_that_are_no_files_name_themselves_and_their_offset(kind: bytes, word: str) -> None:
    data = tar_of([("ok.txt", b"1")])[:1024] + tar_of([("b.txt", b"")], type=kind, linkname="x")
    with pytest.raises(ShardError, match="not a plain file") as caught:
        scan(data)
    (problem,) = caught.value.problems
    assert (problem.where, problem.value) == ("shard s.tar offset 1024", f"b.txt: {word}")


def header(name: str, size_field: bytes, kind: bytes = b"0") -> bytes:
    """One header with any bytes as its size, and a good checksum."""
    raw = bytearray(tar_of([(name, b"")])[:512])
    raw[124:136] = size_field
    raw[156:157] = kind
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


PETABYTE = 10**15
BASE_256 = b"\x80" + PETABYTE.to_bytes(11, "big")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header("b.txt", BASE_256), "b.txt claims 1000000000000000 bytes, 10240 are left"),
        (header("b.txt", b"77777777777\0"), "b.txt claims 8589934591 bytes"),
        (header("b", BASE_256, b"L"), "claims too many bytes for a name"),
        (header("b", BASE_256, b"x"), "claims too many bytes for a name"),
        (header("b", BASE_256, b"g"), "claims too many bytes for a name"),
        (header("b", b"00001000000\0", b"L"), "a name or PAX header claims 262144 bytes"),
        (header("b.txt", b"\xff" * 12), r"negative size .value: -1."),
        (header("b.txt", b"\xff" * 11 + b"\x00"), r"negative size .value: -256."),
        (header("b.txt", b"-0000000012\0"), "not a number"),
        (header("b.txt", b"garbage...\0\0"), "not a number"),
        (header("b.txt", b"00000000128\0"), "not a number"),
    ],
)
def test_sizes_that_cannot_be_are_refused_at_once(
    data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of that size is read or allocated."""
    data = tar_of([("ok.txt", b"1")])[:1024] + data + bytes(10240)
    tracemalloc.start()
    try:
        with pytest.raises(ShardError, match=message) as caught:
            scan(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.problems[0].where == "shard s.tar offset 1024"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b"25 size=1000000000000000\n", "b.txt claims 1000000000000000 bytes"),
        (b"11 size=-5\n", "negative size"),
        (b"12 size=abc\n", "not a number"),
        (b"22 path=../../etc.txt\n", "leads out of the folder"),
        (b"17 path=/etc.txt\n", "leads out of the folder"),
        (b"99 path=x\n", "PAX header is damaged"),
        (b"0 path=x\n", "PAX header is damaged"),
        (b"path=x\n", "PAX header is damaged"),
        (b"10 path=xx", "PAX header is damaged"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
    ],
)
def test_pax_records_that_are_refused(records: bytes, message: str) -> None:
    content = records + bytes(-len(records) % 512)
    data = header("p", b"%011o\0" % len(records), b"x") + content + tar_of([("b.txt", b"1")])
    with pytest.raises(ShardError, match=message) as caught:
        scan(data)
    assert caught.value.problems[0].where == "shard s.tar offset 0"


def test_a_global_pax_header_may_only_comment() -> None:
    def with_global(records: bytes) -> bytes:
        content = records + bytes(-len(records) % 512)
        return header("g", b"%011o\0" % len(records), b"g") + content + tar_of([("b.txt", b"1")])

    data = with_global(b"19 comment=by git \n")
    assert contents(data, scan(data)) == [("b", {"txt": b"1"})]
    with pytest.raises(ShardError, match="global PAX header"):
        scan(with_global(b"10 path=x\n"))


NAMES = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="/\0\n", exclude_categories=("Cc",)),
    min_size=1,
    max_size=60,
).filter(lambda text: text.strip(".") != "")


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(NAMES, min_size=1, max_size=5).map("/".join), st.binary(max_size=700)),
        max_size=8,
        unique_by=lambda member: member[0],
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_that_tarfile_finds(
    members: list[tuple[str, bytes]], format: int
) -> None:
    try:
        data = tar_of([(f"d/{name}", content) for name, content in members], format)
    except ValueError:
        assume(False)  # too long for ustar
    found = [
        (member.name, member.offset, member.data_offset, member.size)
        for member in read_members(data, "s.tar")
    ]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert found == [
            (member.name, member.offset, member.offset_data, member.size)
            for member in archive.getmembers()
        ]


@given(st.data())
def test_any_bytes_are_a_tar_or_a_shard_error(data: st.DataObject) -> None:
    """Damage anywhere never ends in another exception, nor in bytes that are not there."""
    whole = bytearray(
        tar_of([("a.txt", b"1"), (f"{LONG}.txt", b"2" * 600)], tarfile.GNU_FORMAT)[:6144]
        + tar_of([("ü" * 90 + ".txt", b"3")], tarfile.PAX_FORMAT)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, 9000))
        whole[position] = data.draw(st.integers(0, 255))
    mend = data.draw(st.integers(0, 8)) * 512
    raw = whole[mend : mend + 512]
    raw[148:156] = b" " * 8
    whole[mend + 148 : mend + 156] = b"%06o\0 " % sum(raw)
    problems: tuple[Problem, ...] = ()
    try:
        index = scan(bytes(whole))
    except ShardError as error:
        problems = error.problems
    else:
        assert int((index.member_offsets + index.member_sizes).max()) <= len(whole)
    assert all("shard s.tar offset" in problem.where for problem in problems)


@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_the_tar_program_writes(format: str, tmp_path: Path) -> None:
    """Long and foreign names where the format knows them; keys as stock webdataset has them."""
    folder = tmp_path / "in"
    names = ["a", "b b", "nested/deep/c"]
    if format not in ("v7", "ustar"):
        names += ["x" * 150, "long/" * 40 + "name"]
    if format in ("gnu", "posix"):
        names += ["schlüssel-क", "界" * 60]
    for number, name in enumerate(sorted(names)):
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text {number}")
        path.with_suffix(".json").write_text(json.dumps({"n": number}))
    path = tmp_path / "out.tar"
    subprocess.run(
        ["tar", f"--format={format}", "--sort=name", "-cf", path, "-C", folder, "."], check=True
    )
    data = path.read_bytes()
    theirs = [
        (row["__key__"], {name: row[name] for name in row if not name.startswith("__")})
        for row in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    assert len(theirs) == len(names)
    assert contents(data, scan(data)) == theirs


def test_the_tar_program_with_links_and_devices(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    (folder / "b.txt").symlink_to("a.txt")
    os.link(folder / "a.txt", folder / "c.txt")
    os.mkfifo(folder / "d.txt")
    for name in ("b", "c", "d"):
        path = tmp_path / f"{name}.tar"
        members = ["a.txt", f"{name}.txt"]
        subprocess.run(["tar", "-cf", path, "-C", folder, *members], check=True)
        with pytest.raises(ShardError, match="not a plain file") as caught:
            scan(path.read_bytes())
        assert (caught.value.problems[0].value or "").startswith(f"{name}.txt: ")


def test_a_damaged_header_in_the_middle_is_refused_with_its_offset() -> None:
    data = bytearray(tar_of([(f"{number}.txt", b"x" * 700) for number in range(4)]))
    data[2 * 1536 + 20] ^= 1
    with pytest.raises(ShardError, match="header is damaged") as caught:
        scan(bytes(data))
    assert "offset 3072" in caught.value.problems[0].where
