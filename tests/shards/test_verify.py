from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli import main
from headrace.shards import (
    Manifest,
    Sample,
    ShardEntry,
    ShardWriter,
    build_index,
    write_manifest,
)
from headrace.shards.index import BLOCK_BYTES, ShardIndex, read_index, write_index
from headrace.shards.verify import verify_source, verify_sources


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def found(url: Path) -> list[str]:
    return [str(problem) for problem in verify_source(str(url)).problems]


def test_a_sound_source(source: Path) -> None:
    outcome = verify_source(str(source))
    assert outcome.problems == ()
    assert (outcome.shards, outcome.samples) == (3, 50)
    assert outcome.bytes_read == sum(path.stat().st_size for path in source.glob("*.tar"))


def test_any_flipped_byte_of_a_tar_is_found(source: Path) -> None:
    tar = source / "shard-000001.tar"
    for position in np.random.default_rng(3).integers(0, tar.stat().st_size, 25).tolist():
        flip(tar, position)
        (message,) = found(source)
        assert message.startswith("shard shard-000001.tar offset 0: the bytes 0 to ")
        flip(tar, position)
    assert found(source) == []


def test_all_problems_of_all_shards(source: Path, big_source: Path) -> None:
    flip(source / "shard-000000.tar", 5000)
    (source / "shard-000001.tar").unlink()
    flip(source / "shard-000002.idx", 100)
    (source / "extra.tar").write_bytes(b"")
    messages = found(source)
    assert len(messages) == 4
    for part in (
        "shard-000000.tar offset 0: the bytes",
        "shard-000001.tar: the shard is missing",
        "shard-000002.idx: the index is damaged",
        "extra.tar: a tar that the manifest does not name",
    ):
        assert any(part in message for message in messages)
    flip(big_source / "shard-000000.tar", 5)
    flip(big_source / "shard-000000.tar", 2 * BLOCK_BYTES + 5)
    assert ["offset 0" in found(big_source)[0], "offset 2097152" in found(big_source)[1]] == [
        True,
        True,
    ]


def test_without_an_index_the_manifest_still_tells(source: Path) -> None:
    (source / "shard-000000.idx").unlink()
    flip(source / "shard-000000.tar", 5000)
    first, second = found(source)
    assert "its index is missing" in first
    assert "not the one that the manifest names" in second


def test_an_index_that_points_elsewhere(source: Path) -> None:
    url = str(source / "shard-000000.tar")
    index = read_index(url)
    offsets = index.member_offsets.copy()
    offsets[3] -= 512
    write_index(url, ShardIndex(**{**vars(index), "member_offsets": offsets}))
    (message,) = found(source)
    assert "the index does not fit the tar" in message


def test_fields_that_cannot_be_read(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path)) as writer:
        writer.write(Sample("a", {"txt": b"\xff", "json": b"{}"}))
        writer.write(Sample("b", {"txt": b"b", "json": b"{"}))
    first, second = found(tmp_path)
    assert "offset 1536: field txt is not UTF-8 (sample a)" in first
    assert "field json is not JSON (sample b)" in second


def test_no_source(tmp_path: Path) -> None:
    (message,) = found(tmp_path)
    assert "no manifest" in message


def test_remote(tmp_path: Path, write_source: Callable[..., Manifest]) -> None:
    write_source(f"memory://{tmp_path.name}/v")
    assert verify_source(f"memory://{tmp_path.name}/v").problems == ()


def test_the_outcome_does_not_depend_on_the_workers(
    tmp_path: Path, source: Path, big_source: Path, write_source: Callable[..., Manifest]
) -> None:
    """Damage of every kind in two sources, and a third that is not there."""
    write_source(tmp_path / "many", 24, 2)
    for number in (9, 4, 7):
        flip(tmp_path / "many" / f"shard-{number:06d}.tar", 700)
    flip(tmp_path / "many" / "shard-000005.idx", 100)
    (tmp_path / "many" / "shard-000002.idx").unlink()
    (source / "shard-000001.tar").unlink()
    urls = [str(tmp_path / "many"), str(source), str(tmp_path / "none"), str(big_source)]
    alone = verify_sources(urls, workers=1)
    assert [len(outcome.problems) for outcome in alone] == [5, 1, 1, 0]
    for workers in (2, 3):
        assert verify_sources(urls, workers=workers) == alone


def test_keys_that_two_shards_share_are_found_by_any_workers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo(f"{name}.txt"))
            archive.addfile(tarfile.TarInfo("same.txt"))
    entries = [build_index(str(tmp_path / f"{name}.tar")) for name in ("a", "b")]
    shards = tuple(
        ShardEntry(f"{name}.tar", len(index), index.tar_bytes, index.tar_hash)
        for name, index in zip(("a", "b"), entries, strict=True)
    )
    write_manifest(str(tmp_path), Manifest(1, shards))
    for workers in (1, 2):
        (outcome,) = verify_sources([str(tmp_path)], workers)
        (problem,) = outcome.problems
        assert (problem.value, problem.where) == ("same", "shard b.tar offset 512")
        assert "shard a.tar too" in problem.what


def test_remote_with_workers(web: Any, source: Path) -> None:
    flip(source / "shard-000001.tar", 5000)
    for workers in (1, 2):
        (outcome,) = verify_sources([f"{web.url}/source"], workers)
        (problem,) = outcome.problems
        assert problem.where == "shard shard-000001.tar offset 0"


def test_command_workers(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(source), "--workers", "2"]) == 0
    assert "ok (3 shards, 50 samples" in capsys.readouterr().out
    assert main(["verify", str(source), "--workers", "0"]) == 2
    assert "--workers: out of range" in capsys.readouterr().err


def test_command(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(source)]) == 0
    assert "ok (3 shards, 50 samples" in capsys.readouterr().out
    flip(source / "shard-000001.tar", 5000)
    assert main(["verify", str(source)]) == 2
    assert "corrupt" in capsys.readouterr().out
    assert main(["verify", str(source), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    (outcome,) = document["sources"]
    assert outcome["problems"][0]["where"] == "shard shard-000001.tar offset 0"
    assert (outcome["samples"], outcome["ok"]) == (50, False)
