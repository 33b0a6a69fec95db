from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace.errors import MissingExtraError, ShardError
from headrace.shards import storage


def test_join_keeps_protocols_and_roots() -> None:
    assert storage.join("s3://bucket/a/", "b", "c.tar") == "s3://bucket/a/b/c.tar"
    assert storage.join("/", "b") == "/b"
    assert storage.join("memory://", "b") == "memory://b"
    assert storage.join("data/en", "x") == "data/en/x"
    assert storage.name_of("s3://bucket/a/b.tar") == "b.tar"


@pytest.mark.parametrize("protocol", ["path", "file", "memory"])
def test_the_same_operations_everywhere(protocol: str, tmp_path: Path) -> None:
    folder = {
        "path": str(tmp_path / "f"),
        "file": f"file://{tmp_path}/f",
        "memory": f"memory://{tmp_path.name}/f",
    }[protocol]
    url = storage.join(folder, "a.bin")
    assert not storage.exists(url)
    assert storage.list_files(folder) == {}
    storage.write_atomically(url, b"0123456789")
    storage.write_atomically(storage.join(folder, "b.txt"), b"b")
    assert storage.read_bytes(url) == b"0123456789"
    assert storage.read_range(url, 3, 4) == b"3456"
    assert storage.read_range(url, 8, 4) == b"89"
    assert storage.size_of(url) == 10
    assert storage.list_files(folder) == {"a.bin": 10, "b.txt": 1}
    assert storage.list_files(folder, ".bin") == {"a.bin": 10}
    assert storage.sizes(folder, ["a.bin", "c"]) == {"a.bin": 10}
    with storage.open_local(url) as file:
        assert file.read() == b"0123456789"
    storage.delete(url)
    storage.delete(url)
    assert not storage.exists(url)


@pytest.mark.parametrize("protocol", ["path", "memory"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    protocol: str, tmp_path: Path
) -> None:
    folder = str(tmp_path / "f") if protocol == "path" else f"memory://{tmp_path.name}"
    url = storage.join(folder, "a.bin")
    storage.write_atomically(url, b"old")

    def write_half() -> None:
        with storage.open_atomically(url) as file:
            file.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert storage.read_bytes(url) == b"old"
    assert list(storage.list_files(folder)) == ["a.bin"]


@pytest.mark.parametrize("url", ["{}/none.bin", "memory://none/none.bin"])
def test_missing_file_is_a_shard_error(url: str, tmp_path: Path) -> None:
    url = url.format(tmp_path)
    for operation in (
        storage.read_bytes,
        storage.size_of,
        lambda url: storage.read_range(url, 0, 1),
    ):
        with pytest.raises(ShardError) as caught:
            operation(url)
        assert caught.value.problems[0].where == url


def test_a_file_where_a_folder_is_needed_is_a_shard_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ShardError, match=r"Not a directory|File exists"):
        storage.write_atomically(str(tmp_path / "file" / "a"), b"x")


def test_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(ShardError, match="s3") as caught:
        storage.read_bytes("ftpx://host/file")
    assert "ftpx" in str(caught.value)


def test_missing_s3_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "s3fs", None)
    for name in ("s3", "s3a"):
        monkeypatch.delitem(_registry, name, raising=False)
    with pytest.raises(MissingExtraError, match=r"headrace\[s3\]"):
        storage.read_bytes("s3://bucket/file")
