"""What a stream reads in place of removed samples: a living sample of the same shard, if there is
one, else of the next shard that has one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Problem, ShardError
from headrace.shards.reader import ShardReader
from headrace.shards.substitutes import choose_substitutes, seed_of


class Served:
    """The substitutes of a source, worked out once a shard."""

    def __init__(self, reader: ShardReader, chosen: Sequence[NDArray[np.int64]] | None) -> None:
        """``chosen`` are the samples of each shard that a selection chose, if there is one."""
        self._reader = reader
        self._chosen = chosen
        self._of_shard: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def forget(self) -> None:
        """More was removed."""
        self._of_shard.clear()

    def of(self, number: int, samples: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
        """The shard to read from, and the numbers there, for some samples of shard ``number``.

        Raises :class:`ShardError` if the source has no living sample.
        """
        if number not in self._of_shard:
            self._of_shard[number] = self._table(number)
        donor, served = self._of_shard[number]
        return donor, served[samples]

    def _table(self, number: int) -> tuple[int, NDArray[np.int64]]:
        shard = self._reader.shard(number)
        if shard.living.size:
            among = None if self._chosen is None else self._chosen[number]
            return number, shard.served(np.arange(len(shard), dtype=np.int64), among)
        count = len(self._reader.manifest.shards)
        removed = shard.removed
        seeds = np.array([seed_of(key) for key in removed.keys], dtype=np.uint64)
        for step in range(1, count):
            donor = (number + step) % count
            living = self._candidates(donor)
            if living.any():
                # Sizes of two shards are not compared: any of the samples will do.
                room = np.zeros(len(living), dtype=np.int64)
                last = np.zeros(len(removed), dtype=np.int64)
                return donor, choose_substitutes(room, living, last, seeds)
        raise ShardError(
            Problem(
                "all samples of the source were removed",
                self._reader.url,
                f"{len(self._reader):,}",
                "Leave the source out, in a new run",
            )
        )

    def _candidates(self, donor: int) -> NDArray[np.bool_]:
        """Which samples of another shard may be taken."""
        entry = self._reader.manifest.shards[donor]
        living = np.ones(entry.samples, dtype=np.bool_)
        living[self._reader.removed(donor).numbers] = False
        if self._chosen is not None:
            chosen = np.zeros(entry.samples, dtype=np.bool_)
            chosen[self._chosen[donor]] = True
            if (living & chosen).any():
                return living & chosen
        return living
