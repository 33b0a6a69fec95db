"""The shards that are asked for ahead, held against the plan position by position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import pytest

from headrace.stream.fetch import Fetcher
from headrace.stream.lookahead import LookAhead
from headrace.stream.plan import Source, StagePlan


class Asked:
    """Takes the place of the open sources, and notes what is asked for."""

    def __init__(self) -> None:
        self.shards: set[tuple[int, int]] = set()

    def prefetch(self, source: int, shards: Iterable[int]) -> None:
        self.shards.update((source, shard) for shard in shards)


def look(plan: StagePlan) -> tuple[LookAhead, Asked]:
    asked = Asked()
    return LookAhead(plan, cast("Fetcher", asked)), asked


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_every_shard_is_asked_for_before_its_first_sample(temperature: float) -> None:
    plan = StagePlan(
        [
            Source("en", "https://host/en", (5000, 3, 6000, 1, 5000) * 2, "f"),
            Source("hi", "https://host/hi", (4000, 2, 3000), "f"),
            Source("uk", "uk", (5000,) * 2, "f"),
        ],
        seed=5,
        stage="s",
        temperature=temperature,
        shard_window=2,
    )
    ahead, asked = look(plan)
    total = plan.samples_per_epoch
    for start in range(0, 3 * total - 1000, 1000):
        ahead.see(start, start + 1000)
        for epoch in range(start // total, (start + 999) // total + 1):
            first, stop = max(start - epoch * total, 0), min(start + 1000 - epoch * total, total)
            found = plan.locate(epoch, np.arange(first, stop))
            used = set(zip(found.source.tolist(), found.shard.tolist(), strict=True))
            # The small shards, too; those of the local source need no asking.
            assert {place for place in used if place[0] != 2} <= asked.shards
    assert not any(source == 2 for source, _ in asked.shards)


def test_what_is_looked_at_does_not_grow_with_the_samples_of_a_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = [Source(str(n), f"https://host/{n}", (10**9,) * 100, "f") for n in range(20)]
    plan = StagePlan(sources, seed=5, stage="s")
    monkeypatch.setattr(StagePlan, "locate", lambda *_: pytest.fail("positions were looked up"))
    ahead, asked = look(plan)
    ahead.see(10**11, 10**11 + 32)
    for source in range(20):
        # The window that is read, and the one or two that follow.
        assert 16 <= len([1 for number, _ in asked.shards if number == source]) <= 24
