"""The best rows of a stream against a sort of all of them, and sums in any order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection import row_stream
from headrace.selection.limits import Room
from headrace.selection.ranks import Ranks
from headrace.selection.row_stream import BestRows, FixedSums, Kept, stream_of


def sorted_choice(keys, ties, groups, room):
    """Rows one by one: the minimum of each group first, then the best that the maximums allow."""
    order = sorted(range(len(keys)), key=lambda row: (-keys[row], ties[row]))
    chosen, counts = [], np.zeros(len(room.minimum), int)
    for row in order:
        if counts[groups[row]] < room.minimum[groups[row]]:
            chosen.append(row)
            counts[groups[row]] += 1
    for row in order:
        fits = len(chosen) < room.rows and counts[groups[row]] < room.maximum[groups[row]]
        if fits and row not in chosen:
            chosen.append(row)
            counts[groups[row]] += 1
    return sorted(chosen)


@given(data=st.data())
def test_the_best_rows_are_those_of_a_sort(data):
    n = data.draw(st.integers(1, 60))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    keys = random.integers(0, 12, n).astype(float)  # many equal
    ties, groups = random.permutation(n), random.integers(0, 3, n).astype(np.int32)
    sizes = np.bincount(groups, minlength=3)
    maximum = np.array([data.draw(st.integers(0, int(size))) for size in sizes])
    minimum = np.array([data.draw(st.integers(0, int(high))) for high in maximum])
    rows = data.draw(st.integers(int(minimum.sum()), int(maximum.sum())))
    room = Room(rows, None, minimum, maximum)
    best = BestRows(room)
    piece = data.draw(st.integers(1, 10))
    plain, row_stream._LEAST_PENDING = row_stream._LEAST_PENDING, 3
    try:
        for start in range(0, n, piece):
            some = np.arange(start, min(n, start + piece))
            some = some[keys[some] >= best.floors[groups[some]]]  # as a stream would drop them
            best.offer(Kept(keys[some], ties[some], groups[some], some, keys[some, None]))
            assert sum(len(kept.keys) for kept in best._kept) <= 2.25 * (rows + piece) + 3
        found, total = best.finish(Ranks())
    finally:
        row_stream._LEAST_PENDING = plain
    positions = [] if found is None else sorted(found.positions.tolist())
    expected = sorted_choice(keys, ties, groups, room)
    assert positions == expected
    assert total == keys[expected].sum()
    if found is not None:
        np.testing.assert_array_equal(found.vectors[:, 0], keys[found.positions])


def test_sums_are_exact_in_any_order_and_for_any_number_of_rows():
    random = np.random.default_rng(0)
    unit = random.standard_normal((20_000, 5))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    marks = random.integers(0, 2, (3, len(unit))).astype(float)
    found = []
    for order in (np.arange(len(unit)), random.permutation(len(unit))):
        sums = FixedSums(3, 5)
        for start in range(0, len(unit), 9000):
            some = order[start : start + 9000]
            sums.add(marks[:, some], unit[some])
        found.append(sums.total(Ranks()))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], marks @ unit, atol=1e-7)
    many = FixedSums(1, 1)
    many._low += (1 << 62) // 3  # as after a billion batches
    before = many.total(Ranks())[0, 0]
    many.add(np.ones((1, 1)), -np.ones((1, 1)))
    assert before - many.total(Ranks())[0, 0] == 1


def test_a_table_is_a_stream():
    table, ties = np.random.default_rng(1).random((20_000, 2)), np.arange(20_000)[::-1]
    batches = list(stream_of(table, ties)())
    np.testing.assert_array_equal(np.concatenate([batch.vectors for batch in batches]), table)
    np.testing.assert_array_equal(np.concatenate([batch.ties for batch in batches]), ties)
    assert len(list(stream_of(table[:0], ties[:0])())) == 1
