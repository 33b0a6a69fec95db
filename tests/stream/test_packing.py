from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.packing import Packs, best_fit_decreasing
from headrace.stream.plan import Locations

CAPACITY = 24


def one_by_one(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing as in a textbook: one sample after the other, every row looked at."""
    rows: list[list[int]] = []
    spaces: list[int] = []
    since: list[int] = []
    decreasing = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for clock, index in enumerate(decreasing):
        length = lengths[index]
        fitting = [
            (spaces[row], since[row], row) for row in range(len(rows)) if spaces[row] >= length
        ]
        if fitting:
            row = min(fitting)[2]
        else:
            row = len(rows)
            rows.append([])
            spaces.append(capacity)
            since.append(0)
        rows[row].append(index)
        spaces[row] -= length
        since[row] = clock
    return rows


@given(st.lists(st.integers(1, CAPACITY), max_size=60))
def test_packing_is_best_fit_decreasing(lengths: list[int]) -> None:
    order, starts = best_fit_decreasing(np.array(lengths, dtype=np.int32), CAPACITY)
    rows = [part.tolist() for part in np.split(order, starts[1:-1])] if lengths else []
    assert [sorted(row) for row in rows] == [sorted(row) for row in one_by_one(lengths, CAPACITY)]
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= CAPACITY for row in rows)


def test_rows_of_many_short_samples_are_full() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 3000).astype(np.int32)
    _, starts = best_fit_decreasing(lengths, 128)
    assert lengths.sum() / ((len(starts) - 1) * 128) > 0.995


def packs_of(sizes: list[int]) -> Packs:
    total = np.arange(sum(sizes))
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return Packs(Locations(total, total + 100, total + 200), starts)


def rows_of(packs: Packs) -> list[list[int]]:
    rows = [
        packs.samples.source[start:end].tolist()
        for start, end in zip(packs.starts[:-1], packs.starts[1:], strict=True)
    ]
    assert len(rows) == len(packs)
    assert np.array_equal(packs.samples.source + 100, packs.samples.shard)
    assert np.array_equal(packs.samples.source + 200, packs.samples.sample)
    return rows


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_packs_are_taken_joined_and_filtered_like_lists(
    sizes: list[int], data: st.DataObject
) -> None:
    packs = packs_of(sizes)
    rows = rows_of(packs)
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=6))
    assert rows_of(packs.take(np.array(chosen, dtype=np.int64))) == [rows[row] for row in chosen]
    assert rows_of(packs.take(slice(1, 3))) == rows[1:3]
    assert rows_of(packs.take(slice(1, 3)).join(packs)) == rows[1:3] + rows
    mask = data.draw(st.lists(st.booleans(), min_size=sum(sizes), max_size=sum(sizes)))
    kept = [[sample for sample in row if mask[sample]] for row in rows]
    assert rows_of(packs.keep(np.array(mask, dtype=np.bool_))) == [row for row in kept if row]
