from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.feistel import MAX_SIZE, Permutation, derive_key, derive_keys, permute

KEYS = st.integers(0, 2**64 - 1)


@given(st.integers(0, 3000), KEYS)
def test_every_value_comes_out_exactly_once(size: int, key: int) -> None:
    values = np.arange(size)
    mapped = Permutation(size, key)(values)
    assert np.array_equal(np.sort(mapped), values)


@given(st.integers(1, MAX_SIZE), KEYS, st.data())
def test_inverse_undoes_the_permutation_at_any_size(
    size: int, key: int, data: st.DataObject
) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=20)), dtype=np.int64)
    permutation = Permutation(size, key)
    mapped = permutation(values)
    assert np.all((mapped >= 0) & (mapped < size))
    assert np.array_equal(permutation.inverse(mapped), values)
    assert np.array_equal(permutation(permutation.inverse(values)), values)


@given(st.lists(st.tuples(st.integers(1, 50), KEYS), min_size=1, max_size=20))
def test_mixed_sizes_and_keys_agree_with_single_permutations(pairs: list[tuple[int, int]]) -> None:
    values = np.array([size // 2 for size, _ in pairs])
    sizes = np.array([size for size, _ in pairs])
    keys = np.array([key for _, key in pairs], dtype=np.uint64)
    single = [int(Permutation(size, key)(np.array([size // 2]))[0]) for size, key in pairs]
    assert permute(values, sizes, keys).tolist() == single


@pytest.mark.parametrize("size", [0, 1, 2])
def test_smallest_sizes(size: int) -> None:
    assert sorted(Permutation(size, 3)(np.arange(size)).tolist()) == list(range(size))


@pytest.mark.parametrize(("size", "value"), [(0, 0), (3, 3), (3, -1)])
def test_values_out_of_range_are_refused(size: int, value: int) -> None:
    with pytest.raises(IndexError):
        Permutation(size, 1)(np.array([value]))


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        Permutation(size, 1)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_a_few_are_about_equally_likely(size: int) -> None:
    orders = math.factorial(size)
    keys = derive_keys(1, np.arange(orders * 200))
    sizes = np.full(len(keys), size)
    columns = [permute(np.full(len(keys), value), sizes, keys) for value in range(size)]
    _, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    assert len(counts) == orders
    assert counts.min() > 100
    assert counts.max() < 300


def test_a_large_permutation_looks_random() -> None:
    size = 200_000
    values = np.arange(size)
    mapped = Permutation(size, 9)(values)
    # Of two uniform numbers in 0..1 the mean distance is 1/3, with a spread of 0.24 / sqrt(size).
    assert abs(np.abs(mapped - values).mean() / size - 1 / 3) < 0.003
    assert abs(np.corrcoef(mapped[:-1], mapped[1:])[0, 1]) < 0.01
    table, _, _ = np.histogram2d(values, mapped, bins=20)
    statistic = ((table - size / 400) ** 2 / (size / 400)).sum()
    # Chi-square with 19 x 19 degrees of freedom: mean 361, standard deviation 27.
    assert 250 < statistic < 480


def test_keys_give_different_orders() -> None:
    values = np.arange(1000)
    agreeing = Permutation(1000, 1)(values) == Permutation(1000, 2)(values)
    assert agreeing.mean() < 0.02


def test_parts_of_a_key_are_kept_apart() -> None:
    parts = [("a", "bc"), ("ab", "c"), ("abc",), (1, 23), (12, 3), ("1", 23), (1, "23"), ()]
    assert len({derive_key(*each) for each in parts}) == len(parts)


def test_order_is_pinned() -> None:
    assert derive_key("blocks", 17, "multilingual/all", "東京") == 1700078508287894707
    assert derive_keys(5, np.array([0, 1, 2])).tolist() == [
        13168350753275463132,
        13213674757522680073,
        13276149613355208603,
    ]
    assert Permutation(10, 5)(np.arange(10)).tolist() == [6, 4, 9, 5, 7, 0, 2, 3, 8, 1]
    assert Permutation(10**12, 5)(np.array([0, 1, 10**12 - 1])).tolist() == [
        909645899363,
        571077607924,
        821220761836,
    ]


def test_keys_do_not_depend_on_the_process() -> None:
    code = "from headrace.stream.feistel import derive_key; print(derive_key('a', 1))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed == [f"{derive_key('a', 1)}\n"] * 2
