"""Whether too many records of a source go into quarantine, as soon as that is beyond doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from headrace.corpus.building.outcomes import REJECTED
from headrace.corpus.building.part_work import part_path
from headrace.corpus.building.parts import Part
from headrace.corpus.recipe.settings import Recipe
from headrace.errors import CorpusError, Problem

_MORE = 2
"""Nobody knows how many records are in parts that were not read: so many times what their sizes
suggest, all of them good, are allowed for."""


class RejectLimit:
    """Counts the records of parts by source.

    Args:
        recipe: has the limits.
        parts: all parts of the build.
        folder: of what lies between the stages.
    """

    def __init__(self, recipe: Recipe, parts: Sequence[Part], folder: Path) -> None:
        self._recipe = recipe
        self._folder = folder
        self._left: Counter[int] = Counter()
        """Bytes of parts that are not done."""
        for part in parts:
            self._left[_source_of(part)] += part.size
        self._size: Counter[int] = Counter()
        self._read: Counter[int] = Counter()
        self._rejected: Counter[int] = Counter()
        self._with_rejects: dict[int, list[str]] = {}

    def add(self, part: Part, row: Mapping[str, Any]) -> None:
        """Count a part that is done, with its line of the ledger."""
        source = _source_of(part)
        self._left[source] -= part.size
        self._size[source] += part.size
        self._read[source] += row["read"]
        self._rejected[source] += row["rejected"]
        if row["rejected"]:
            self._with_rejects.setdefault(source, []).append(part.name)

    def check(self, sources: Iterable[int] | None = None) -> None:
        """Look at some sources of the recipe, by number, or at all.

        Raises:
            CorpusError: for each of which too much cannot be used, however good the rest of it is.
        """
        numbers = range(len(self._recipe.sources)) if sources is None else sources
        problems = [problem for one in numbers if (problem := self._problem(one)) is not None]
        if problems:
            raise CorpusError(problems)

    def _problem(self, source: int) -> Problem | None:
        limits = self._recipe.limits
        read, rejected, left = self._read[source], self._rejected[source], self._left[source]
        most = read + _MORE * read * left / max(1, self._size[source]) if left else read
        if rejected <= max(limits.rejected_records, limits.rejected_share * most):
            return None
        so_far = " so far" if left else ""
        return Problem(
            "too many records are rejected",
            f"sources.{source} ({self._recipe.sources[source].id})",
            f"{rejected} of {read}{so_far}: {self._reasons(source)}",
            "Look at what was wrong, or raise limits.rejected_share and run it again: what was "
            "done is kept",
        )

    def _reasons(self, source: int) -> str:
        """How often a record was rejected why, in words."""
        reasons: Counter[str] = Counter()
        for name in self._with_rejects[source]:
            table = pq.read_table(
                part_path(self._folder, name),
                columns=["rule"],
                filters=[("outcome", "=", REJECTED)],
            )
            reasons.update(table["rule"].to_pylist())
        return ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())


def _source_of(part: Part) -> int:
    return part.slices[0].file.source
