"""The order of one source: which of its shards are coming."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.order import SourceOrder
from headrace.stream.plan import Source, StagePlan


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any),
    st.integers(1, 5),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_the_shards_of_some_draws_are_those_in_which_the_plan_finds_them(
    sizes: list[int], window: int, first: int, length: int
) -> None:
    plan = StagePlan(
        [Source("en", "en", tuple(sizes), "f")], seed=3, stage="s", shard_window=window
    )
    samples = sum(sizes)
    drawn = plan.drawn_before(first + length)
    assert drawn.tolist() == [first + length]
    coming = plan.orders[0].shards_of(first, first + length)
    assert len(set(coming)) == len(coming)
    needed: list[int] = []
    # What a window of shards holds is shuffled: all places of each window that is touched.
    for draw in range(first, first + length):
        number, place = divmod(draw, samples)
        order = plan.orders[0].of_pass(number)
        which = int(np.searchsorted(order.window_starts, place, side="right")) - 1
        shards = order.shards[which * window : (which + 1) * window].tolist()
        needed += [shard for shard in shards if sizes[shard]]
    assert coming == list(dict.fromkeys(needed))


def test_many_passes_are_looked_at_no_longer_than_until_every_shard_was_seen() -> None:
    order = SourceOrder([1, 0, 2], 2, "key")
    assert sorted(order.shards_of(1, 10**15)) == [0, 2]
