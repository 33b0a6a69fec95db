"""The bytes of one tar: how often its blocks are verified."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.shards import Sample, ShardCache, ShardReader, ShardWriter, tars


def test_a_copy_that_was_fetched_again_is_verified_once(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ShardWriter(str(web.folder / "large"), samples_per_shard=100) as writer:
        for number in range(100):
            text = b"%d " % number * 20_000
            writer.write(Sample(f"s{number}", {"txt": text, "json": b"{}"}))
    cache = ShardCache(tmp_path / "cache")
    with ShardReader(f"{web.url}/large", cache=cache) as reader:
        reader.shard(0)
    (tar,) = cache.folder.rglob("*.tar")
    with tar.open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"\xff")
    checked: Counter[int] = Counter()
    check = tars.check_block

    def count(data: bytes, block: int, *rest: Any) -> None:
        checked[block] += 1
        check(data, block, *rest)

    shard = ShardReader(f"{web.url}/large", cache=cache).shard(0)
    monkeypatch.setattr(tars, "check_block", count)
    (texts,) = shard.read_many(np.arange(100), ["txt"])
    assert texts == [b"%d " % number * 20_000 for number in range(100)]
    assert len(checked) == 6
    # The first block in the old copy and in the new one, the second also when it was bad.
    assert [checked[block] for block in range(6)] == [2, 2, 1, 1, 1, 1]
