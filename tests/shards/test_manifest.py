from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ShardError
from headrace.shards import Manifest, ShardEntry, read_manifest, write_manifest

ENTRIES = (ShardEntry("a.tar", 3, 10240, "0" * 32), ShardEntry("b.tar", 2, 10240, "f" * 32))


def test_round_trip(tmp_path: Path) -> None:
    manifest = Manifest(1, ENTRIES, "parent", {"language": "hi", "note": "क"})
    write_manifest(str(tmp_path), manifest)
    assert read_manifest(str(tmp_path)) == manifest
    assert manifest.samples == 5


def test_fingerprint_is_over_the_shards_in_order_and_not_the_metadata() -> None:
    first = Manifest(1, ENTRIES)
    assert first.fingerprint == Manifest(1, ENTRIES, "p", {"x": 1}).fingerprint
    assert first.fingerprint != Manifest(1, ENTRIES[::-1]).fingerprint
    assert first.fingerprint != Manifest(1, ENTRIES[:1]).fingerprint


def edited(tmp_path: Path, **changes: Any) -> str:
    write_manifest(str(tmp_path), Manifest(1, ENTRIES))
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return str(tmp_path)


ROW = {"name": "a.tar", "samples": 1, "bytes": 1, "hash": "0" * 32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": []}, "list of shards is empty"),
        ({"shards": None}, "list of shards is empty"),
        ({"shards": [ROW, ROW]}, "listed twice"),
        ({"shards": [{**ROW, "name": "../a.tar"}]}, "not a shard entry"),
        ({"shards": [{**ROW, "name": "/etc/a.tar"}]}, "not a shard entry"),
        ({"shards": [{**ROW, "samples": -1}]}, "not a shard entry"),
        ({"shards": [{**ROW, "samples": True}]}, "not a shard entry"),
        ({"shards": [{**ROW, "samples": 0}]}, "a shard is empty"),
        ({"shards": [{**ROW, "hash": "xyz"}]}, "not a shard entry"),
        ({"shards": [ROW]}, "changed by hand"),
        ({"metadata": {"language": "xx"}}, "digest does not fit"),
        ({"samples": 6}, "digest does not fit"),
        ({"parent": "f" * 32}, "digest does not fit"),
        ({"extra": 1}, "digest does not fit"),
        ({"metadata": []}, "metadata is not an object"),
        ({"parent": 3}, "parent is not a string"),
        ({"version": 2}, "version is not 1"),
    ],
)
def test_a_manifest_that_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ShardError, match=message) as caught:
        read_manifest(edited(tmp_path, **changes))
    assert "manifest.json" in str(caught.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    url = edited(tmp_path, shards=[{**ROW, "samples": 0}, {"name": 1}, ROW], metadata=3)
    with pytest.raises(ShardError) as caught:
        read_manifest(url)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe"])
def test_not_a_json_object(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(ShardError, match=r"not JSON|not a JSON object"):
        read_manifest(str(tmp_path))


def test_no_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="headrace build"):
        read_manifest(str(tmp_path))
    (tmp_path / "a.tar").touch()
    with pytest.raises(ShardError, match="headrace index"):
        read_manifest(str(tmp_path))
    (tmp_path / "build-ledger.jsonl").touch()
    with pytest.raises(ShardError, match="interrupted"):
        read_manifest(str(tmp_path))
