"""Asks for the remote shards of the positions ahead, so that they are there when they are read."""

from __future__ import annotations

from headrace.shards import storage
from headrace.stream.fetch import Fetcher
from headrace.stream.plan import StagePlan


class LookAhead:
    """Looks one window of shards ahead, in the plan alone: nothing is read for it."""

    def __init__(self, plan: StagePlan, fetcher: Fetcher) -> None:
        """``fetcher`` reads the plan's sources."""
        self._plan = plan
        self._fetcher = fetcher
        self._remote = [
            number for number, source in enumerate(plan.sources) if not storage.is_local(source.url)
        ]
        self._next = 0
        self.positions: int = min(
            round(row.samples / row.shards * min(plan.shard_window, row.shards) / row.share)
            for row in plan.mixture
        )
        """How far it looks: until the first source needs the window after next."""

    def restart(self) -> None:
        """Look anew, from wherever the stream is next."""
        self._next = 0

    def see(self, start: int, stop: int) -> None:
        """The positions from ``start`` to ``stop``, counted over the whole stage, are read next."""
        if stop < self._next or not self._remote:
            return
        # Again after a quarter, for shards that the readers had no room for.
        self._next = stop + max(1, self.positions // 4)
        # Whole blocks, since a block is shuffled.
        plan = self._plan
        drawn = plan.drawn_before(start - start % plan.samples_per_epoch % plan.block).tolist()
        ahead = plan.drawn_before(self._next + self.positions + plan.block).tolist()
        for source in self._remote:
            shards = plan.orders[source].shards_of(drawn[source], ahead[source])
            self._fetcher.prefetch(source, shards)
