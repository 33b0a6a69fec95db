"""Embeddings as unit rows: read in chunks, scored in fp32, summed exactly.

Nothing of the size of the matrix is ever made.  A row's fp32 score depends on where in a chunk it
stands, so decisions that hang on the last digits are taken on :meth:`Rows.exact_scores`, which
does not; and sums are kept in fixed point, so that they do not depend on the order of the rows or
on the number of ranks that hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.errors import Problem
from headrace.selection.ranks import Ranks
from headrace.selection.vectors import Table

_CHUNK_BYTES = 1 << 19
"""Bytes of the rows that are converted at once: they stay in the processor's cache."""
_WHOLE_CHUNKS = 32
"""Times as many rows are scored at once where they need no conversion."""
_MOST_ROWS = 4096
"""Rows whose fixed-point numbers, of 40 bits each, may be summed in fp64 without an error."""
_NORMS = (1e-15, 1e15)
"""Norms that leave room for products with large sums in fp32."""
_NAMED = 10
"""Rows that a problem names."""


class Rows:
    """The rows of this rank, each divided by its norm when it is read.

    Args:
        matrix: ``[rows, d]`` fp16, fp32 or fp64, in memory or mapped.
        ties: ``[rows]`` int64, different on all rows of all ranks: of two rows with the same
            score the one with the smaller number comes first.
        groups: ``[rows]`` int32, the number of the group of each row; all 0 if not given.
        ranks: who else holds rows.
        inverse_norms: ``[rows]`` fp64 if they are known; they are computed otherwise, in the one
            pass that also sums all rows.

    Rows that have no direction are found by :meth:`problems`, and must be before anything else.
    """

    def __init__(
        self,
        matrix: Table,
        *,
        ties: NDArray[np.int64] | None = None,
        groups: NDArray[np.int32] | None = None,
        ranks: Ranks | None = None,
        inverse_norms: NDArray[np.float64] | None = None,
    ) -> None:
        self.matrix = matrix
        self.ranks = ranks or Ranks()
        counts = np.zeros(self.ranks.size, np.int64)
        counts[self.ranks.rank] = len(matrix)
        counts = self.ranks.sum(counts)
        self.total = int(counts.sum())
        """Rows of all ranks."""
        self.offset = int(counts[: self.ranks.rank].sum())
        """Rows of the ranks before this one."""
        self.ties = ties if ties is not None else np.arange(len(matrix)) + self.offset
        self.groups = groups if groups is not None else np.zeros(len(matrix), np.int32)
        bits = max(1, int(self.total)).bit_length()
        self._scale = 2.0 ** min(40, 62 - bits)  # the sum over all rows fits 63 bits
        self._everything: NDArray[np.int64] | None = None
        self.inverse_norms = self._read() if inverse_norms is None else inverse_norms

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def dimensions(self) -> int:
        """Length of a row."""
        return int(self.matrix.shape[1])

    def problems(self, names: Callable[[int], str]) -> list[Problem]:
        """Rows of this rank that have no direction, or one that is lost in fp32, by name."""
        inverse = self.inverse_norms
        kinds = (
            ("not numbers (NaN or infinity)", np.isnan(inverse) | (inverse == 0)),
            ("zero", np.isposinf(inverse)),
            (
                f"of a norm outside {_NORMS[0]:g} to {_NORMS[1]:g}",
                (inverse > 1 / _NORMS[0]) & np.isfinite(inverse)
                | (inverse < 1 / _NORMS[1]) & (inverse > 0),
            ),
        )
        problems = []
        for kind, wrong in kinds:
            numbers = np.flatnonzero(wrong)
            if len(numbers):
                named = ", ".join(names(int(number)) for number in numbers[:_NAMED])
                more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
                problems.append(
                    Problem(
                        f"vectors that are {kind} have no cosine with others",
                        "vectors",
                        named + more,
                        "Leave these rows out, or embed them again",
                    )
                )
        return problems

    def scores(self, query: NDArray[np.float64]) -> NDArray[np.float32]:
        """``[rows]`` fp32: the product of each unit row with a vector, to within :meth:`error`."""
        out = np.empty(len(self), np.float32)
        vector = query.astype(np.float32)
        factor = _WHOLE_CHUNKS if self.matrix.dtype == np.float32 else 1
        for start, stop in self._chunks(len(self), 4, factor):
            part = torch.from_numpy(self.matrix[start:stop]).float().numpy()
            out[start:stop] = part @ vector * self.inverse_norms[start:stop]
        return out

    def error(self, query: NDArray[np.float64]) -> float:
        """What any of the scores of a vector can be off by at most.

        Rounding the row, the vector and the ``d`` products, their sum in any order, and the
        division by the norm: ``(d + 8) u`` of the product of the absolute values, which is at
        most the norm of the vector; ``u = 2**-24``.
        """
        return 1.1 * (self.dimensions + 8) * 2.0**-24 * float(np.linalg.norm(query))

    def exact_scores(
        self, rows: NDArray[np.int64], query: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """``[len(rows)]`` fp64: scores of some rows, equal for equal rows wherever they stand."""
        out = np.empty(len(rows))
        for start, stop in self._chunks(len(rows), 8):
            some = rows[start:stop]
            products = self.matrix[some].astype(np.float64)
            products *= query
            out[start:stop] = np.add.reduce(products, axis=1) * self.inverse_norms[some]
        return out

    def unit(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``[len(rows), d]`` fp64: some rows, with norm 1."""
        return self.matrix[rows].astype(np.float64) * self.inverse_norms[rows, None]

    def fixed_sum(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """``[d]``: the sum of some (default: all) unit rows over all ranks, in fixed point.

        Fixed-point sums may be added and subtracted without any error; :meth:`as_float` makes
        fp64 of them.
        """
        return self.ranks.sum(self.own_fixed_sum(rows))

    def own_fixed_sum(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """``[d]``: the sum of some (default: all) unit rows of this rank, in fixed point."""
        if rows is None and self._everything is not None:
            return self._everything
        total = np.zeros(self.dimensions, np.int64)
        for start, stop in self._chunks(len(self) if rows is None else len(rows), 8):
            some: Any = slice(start, stop) if rows is None else rows[start:stop]
            # out of place first: fp64 rows are not copied
            part = torch.from_numpy(self.matrix[some]).double()
            part = part * torch.from_numpy(self.inverse_norms[some] * self._scale)[:, None]
            # integers below 2**53 add up exactly in fp64, in whatever order
            total += part.round_().sum(0).to(torch.int64).numpy()
        return total

    def fixed(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """Unit rows in the fixed point of :meth:`fixed_sum`, in the shape that they are given."""
        return np.rint(rows * self._scale).astype(np.int64)

    def as_float(self, fixed: NDArray[np.int64]) -> NDArray[np.float64]:
        """``[d]`` fp64: a fixed-point sum as numbers."""
        return fixed / self._scale

    def gather(
        self, rows: NDArray[np.int64], *, by_position: bool = False
    ) -> tuple[Rows, NDArray[np.int64]]:
        """Copies of some rows of each rank on every rank, and their positions.

        They are in the order of their ties, or of their positions, which count through the rows of
        all ranks.
        """
        rows = np.sort(rows) if by_position else rows[np.argsort(self.ties[rows])]
        parts: tuple[Any, ...] = (
            self.matrix[rows],
            self.ties[rows],
            self.groups[rows],
            self.inverse_norms[rows],
        )
        positions = rows + self.offset
        if self.ranks.size > 1:
            gather = self.ranks.gather
            positions = gather(positions)
            order = np.argsort(positions if by_position else gather(parts[1]))
            parts = tuple(gather(part)[order] for part in parts)
            positions = positions[order]
        matrix, ties, groups, inverse = parts
        if matrix.dtype == np.float16:
            matrix = matrix.astype(np.float32)  # copies are few, and read often
        copies = Rows(matrix, ties=ties, groups=groups, inverse_norms=inverse)
        # the fixed point is that of all rows, so that sums of the copies fit sums of the rows
        copies._scale = self._scale
        return copies, positions

    def local(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some positions that this rank holds, as row numbers of this rank."""
        own = positions - self.offset
        return own[(own >= 0) & (own < len(self))]

    def subset(self, rows: NDArray[np.int64]) -> Rows:
        """Some rows of each rank as rows by themselves, read from where they are."""
        table: Any = _Part(self.matrix, rows)
        part = Rows(
            table,
            ties=self.ties[rows],
            groups=self.groups[rows],
            ranks=self.ranks,
            inverse_norms=self.inverse_norms[rows],
        )
        part._scale = self._scale
        return part

    def _read(self) -> NDArray[np.float64]:
        """The inverse norms; the sum of all rows is kept on the way."""
        inverse = np.empty(len(self))
        everything = np.zeros(self.dimensions, np.int64)
        for start, stop in self._chunks(len(self), 8):
            part = torch.from_numpy(self.matrix[start:stop]).double()
            plain = part.numpy()
            with np.errstate(divide="ignore", invalid="ignore"):  # see `problems`
                inverse[start:stop] = 1 / np.sqrt(np.einsum("ij,ij->i", plain, plain))
            scaled = part * torch.from_numpy(inverse[start:stop] * self._scale)[:, None]
            everything += scaled.round_().sum(0).to(torch.int64).numpy()
        self._everything = everything
        return inverse

    def _chunks(self, count: int, itemsize: int, factor: int = 1) -> list[tuple[int, int]]:
        """Ends of chunks of rows that are made into numbers of this many bytes."""
        chunk = factor * max(1, min(_MOST_ROWS, _CHUNK_BYTES // (itemsize * self.dimensions)))
        return [(start, min(start + chunk, count)) for start in range(0, count, chunk)]


class _Part:
    """Some rows of a table as a table, without a copy."""

    ndim = 2

    def __init__(self, table: Table, rows: NDArray[np.int64]) -> None:
        self._table, self._rows = table, rows
        self.shape = (len(rows), table.shape[1])
        self.dtype = table.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return self._table[self._rows[rows]]
