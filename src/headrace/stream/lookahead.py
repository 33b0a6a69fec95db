"""Asks for the remote shards of the positions ahead, so that they are there when they are read."""

from __future__ import annotations

import numpy as np

from headrace.shards import storage
from headrace.stream.fetch import Fetcher
from headrace.stream.plan import StagePlan

MAX_STRIDE = 64
"""At least every so many positions ahead are looked up: of a shard there are many among them."""
LOOKS = 32
"""Positions that are looked up for a shard of mean size."""


class LookAhead:
    """Looks one window of shards ahead, in the plan alone: nothing is read for it."""

    def __init__(self, plan: StagePlan, fetcher: Fetcher) -> None:
        """``fetcher`` reads the plan's sources."""
        self._plan = plan
        self._fetcher = fetcher
        self._is_remote = np.array([not storage.is_local(source.url) for source in plan.sources])
        self._next = 0
        self.positions: int = min(
            round(row.samples / row.shards * min(plan.shard_window, row.shards) / row.share)
            for row in plan.mixture
        )
        """How far it looks: until the first source needs the window after next."""
        shard_samples = min(row.samples // row.shards for row in plan.mixture)
        self._stride = max(1, min(MAX_STRIDE, shard_samples // LOOKS))

    def restart(self) -> None:
        """Look anew, from wherever the stream is next."""
        self._next = 0

    def see(self, start: int, stop: int) -> None:
        """The positions from ``start`` to ``stop``, counted over the whole stage, are read next."""
        if stop < self._next or not self._is_remote.any():
            return
        # Again after a quarter, for shards that the readers had no room for.
        self._next = stop + max(1, self.positions // 4)
        ahead = np.arange(start, self._next + self.positions, self._stride, dtype=np.int64)
        epochs, ahead = np.divmod(ahead, self._plan.samples_per_epoch)
        for epoch in np.unique(epochs).tolist():
            places = self._plan.locate(epoch, ahead[epochs == epoch])
            for source in np.unique(places.source).tolist():
                if self._is_remote[source]:
                    shards = dict.fromkeys(places.shard[places.source == source].tolist())
                    self._fetcher.prefetch(source, shards)
