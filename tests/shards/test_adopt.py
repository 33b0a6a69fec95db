from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import webdataset

from headrace.errors import ShardError
from headrace.shards import ShardReader, read_manifest
from headrace.shards.adopt import index_source


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Three tars of 4, 4 and 2 samples by stock webdataset, without index or manifest."""
    with webdataset.ShardWriter(str(tmp_path / "x-%06d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(10):
            writer.write({"__key__": f"s{number}", "txt": f"text {number}", "json": {"n": number}})
    return tmp_path


def add_tar(folder: Path, name: str, members: list[str]) -> None:
    with tarfile.open(folder / name, "w") as archive:
        for member in members:
            archive.addfile(tarfile.TarInfo(member), io.BytesIO(b""))


def test_tars_of_webdataset_become_a_source(tars: Path) -> None:
    manifest = index_source(str(tars), metadata={"language": "de"})
    assert [shard.samples for shard in manifest.shards] == [4, 4, 2]
    assert manifest.metadata == {"language": "de"}
    rows = [(sample.text, sample.metadata["n"]) for sample in ShardReader(str(tars))]
    assert rows == [(f"text {number}", number) for number in range(10)]


def test_workers_change_nothing(tars: Path, tmp_path: Path) -> None:
    alone = index_source(str(tars))
    before = {path: path.read_bytes() for path in tars.iterdir()}
    for path in [*tars.glob("*.idx"), tars / "manifest.json"]:
        path.unlink()
    assert index_source(str(tars), workers=3) == alone
    assert {path: path.read_bytes() for path in tars.iterdir()} == before
    (tars / "x-000001.tar").write_bytes(b"x" * 1000)
    with pytest.raises(ShardError, match=r"shard x-000001\.tar offset 0"):
        index_source(str(tars), workers=2, rebuild=True)


def test_indexing_twice_changes_nothing(tars: Path) -> None:
    first = index_source(str(tars))
    before = {path: path.read_bytes() for path in tars.iterdir()}
    assert index_source(str(tars)) == first
    assert {path: path.read_bytes() for path in tars.iterdir()} == before


def test_a_lost_index_is_made_again(source: Path) -> None:
    index = source / "shard-000001.idx"
    before = index.read_bytes()
    index.unlink()
    with pytest.raises(ShardError, match="headrace index"):
        ShardReader(str(source))
    index_source(str(source))
    assert index.read_bytes() == before
    assert len(list(ShardReader(str(source)))) == 50


def test_a_changed_tar_needs_rebuild(source: Path) -> None:
    before = read_manifest(str(source))
    tar = source / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"rd12", b"rd13"))
    (source / "shard-000001.idx").unlink()
    with pytest.raises(ShardError, match="--rebuild") as caught:
        index_source(str(source))
    assert caught.value.problems[0].where == "shard shard-000001.tar"
    after = index_source(str(source), rebuild=True)
    assert after.parent == before.fingerprint
    assert after.metadata == before.metadata
    assert after.fingerprint != before.fingerprint
    assert len(list(ShardReader(str(source)))) == 50


def test_a_tar_that_was_added_needs_rebuild(tars: Path) -> None:
    first = index_source(str(tars))
    add_tar(tars, "y.tar", ["new.txt"])
    with pytest.raises(ShardError, match=r"y\.tar: a tar that the manifest does not name.*rebuild"):
        index_source(str(tars))
    assert read_manifest(str(tars)) == first
    assert len(index_source(str(tars), rebuild=True).shards) == 4


def test_all_bad_tars_are_listed_and_no_manifest_is_written(tars: Path) -> None:
    add_tar(tars, "y.tar", ["a.txt", "b.txt", "a.json"])
    add_tar(tars, "z.tar", ["s3.txt"])
    with (tars / "x-000002.tar").open("r+b") as file:
        file.truncate(700)
    with pytest.raises(ShardError) as caught:
        index_source(str(tars))
    places = [problem.where.split()[1] for problem in caught.value.problems]
    assert places == ["x-000002.tar", "y.tar", "z.tar"]
    assert "the key is in shard x-000000.tar too" in str(caught.value)
    assert not (tars / "manifest.json").exists()


def test_no_tars(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no tars"):
        index_source(str(tmp_path))
