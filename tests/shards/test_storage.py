from __future__ import annotations

import os
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
    with pytest.raises(ShardError, match="a file is in the way"):
        storage.write_atomically(str(tmp_path / "file" / "a"), b"x")
    with pytest.raises(ShardError, match="a file is in the way"):
        storage.make_folder(str(tmp_path / "file" / "a" / "b"))


@pytest.mark.parametrize("url", ["", "  ", "file://"])
def test_an_empty_url_is_never_the_root_or_the_working_folder(url: str) -> None:
    for operation in (
        lambda: storage.join(url, "manifest.json"),
        lambda: storage.list_files(url),
        lambda: storage.make_folder(url),
        lambda: storage.write_atomically(url, b""),
        lambda: storage.local_folder(url, "--output"),
    ):
        with pytest.raises(ShardError, match="the path is empty"):
            operation()


def test_a_local_folder_is_no_url_and_has_no_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for text in (str(tmp_path), str(tmp_path / "new" / "one"), f"file://{tmp_path}/new"):
        assert tmp_path in (path := storage.local_folder(text, "--cache"), *path.parents)
    for text in ("s3://bucket/x", "memory://x", "http://host/x"):
        with pytest.raises(ShardError, match="--cache: not a folder on this machine"):
            storage.local_folder(text, "--cache")
    for text in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(ShardError, match="--cache: a file is in the way"):
            storage.local_folder(str(text), "--cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_file_to_write_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for good in (tmp_path / "file", tmp_path / "new" / "x.json", "memory://x/y.json"):
        assert storage.output_file_problems(str(good), "--json") == []
    for bad, says in (
        ("", "empty"),
        (tmp_path, "a folder"),
        (f"{tmp_path}/new/", "a folder"),
        (tmp_path / "file" / "x.json", "in the way"),
        ("ftpx://host/x.json", "not known"),
        (os.devnull, "a device"),
    ):
        (problem,) = storage.output_file_problems(str(bad), "--json")
        assert problem.where == "--json"
        assert says in problem.what
    assert not (tmp_path / "new").exists()


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The rights of the user who runs the tests may be those of root, who may write anywhere.
    monkeypatch.setattr("os.access", lambda *_: False)
    (problem,) = storage.output_file_problems(str(tmp_path / "x.json"), "--json")
    assert "no permission" in problem.what


def test_a_server_that_does_not_answer() -> None:
    pytest.importorskip("aiohttp")
    for operation in (storage.read_bytes, storage.size_of, storage.exists):
        with pytest.raises(ShardError, match="the server is not reachable"):
            operation("http://127.0.0.1:9/manifest.json")


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
