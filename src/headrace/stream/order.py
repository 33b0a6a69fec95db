"""The order of one source: a shuffle of its shards, and one of the samples of a window of shards.

Every pass over the source (its own epoch) has an order of its own.  Shards are permuted, taken in
windows of a few, and the samples of a window are permuted, so that a reader has only a window of
shards open.  Memory is two int64 a shard for each of the two passes that are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from headrace.stream.feistel import Int64Array, Permutation, derive_key


@dataclass(frozen=True)
class PassOrder:
    """The order of one pass over one source of ``n`` shards."""

    shards: Int64Array
    """The shards in the order in which they are taken; int64[n]."""
    starts: Int64Array
    """The first position of each of ``shards`` in the pass, and the pass's length; int64[n+1]."""
    window_starts: Int64Array
    """The first position of each window, and the pass's length; int64[windows+1]."""
    key: int
    """The key from which those of the windows are derived."""


class SourceOrder:
    """The orders of a source, one for each pass, with the last two kept."""

    def __init__(self, shard_sizes: Sequence[int], window: int, *identity: int | str) -> None:
        """``window`` is in shards; ``identity`` (seed, stage, URL) seeds the order."""
        self.sizes = np.asarray(shard_sizes, dtype=np.int64)
        self.samples = int(self.sizes.sum())
        self._window = window
        self._identity = identity
        # Two, since a stretch of positions may end one pass and begin the next.
        self.of_pass = lru_cache(maxsize=2)(self._make)

    def shards_of(self, first: int, stop: int) -> list[int]:
        """The shards that the draws ``first`` to ``stop - 1`` may lie in, the soonest first.

        Draws are counted over the whole stage.  Samples are shuffled in windows of shards: all of
        a window's may be the next.
        """
        shards: dict[int, None] = {}
        # The rest of one pass and the whole of the next have every shard.
        count = np.count_nonzero(self.sizes)
        while first < stop and len(shards) < count:
            number, place = divmod(first, self.samples)
            order = self.of_pass(number)
            last = min(stop - 1 - number * self.samples, self.samples - 1)
            begin, end = np.searchsorted(order.window_starts, [place, last], side="right") - 1
            coming = order.shards[begin * self._window : (end + 1) * self._window]
            shards.update(dict.fromkeys(coming[self.sizes[coming] > 0].tolist()))
            first = (number + 1) * self.samples
        return list(shards)

    def _make(self, number: int) -> PassOrder:
        shards = np.arange(self.sizes.size, dtype=np.int64)
        # Within a single window the order of the shards makes no difference.
        if shards.size > self._window:
            key = derive_key("shards", *self._identity, number)
            shards = Permutation(shards.size, key)(shards)
        starts = np.zeros(shards.size + 1, dtype=np.int64)
        np.cumsum(self.sizes[shards], out=starts[1:])
        return PassOrder(
            shards=shards,
            starts=starts,
            window_starts=np.append(starts[:-1][:: self._window], starts[-1]),
            key=derive_key("samples", *self._identity, number),
        )
