"""Numbers with their noun."""

import numpy as np
import pytest

from headrace.counts import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 epochs"),
        (1, "1 epoch"),
        (1.0, "1 epoch"),
        (1.5, "1.5 epochs"),
        (2, "2 epochs"),
        (np.int64(12345), "12,345 epochs"),
    ],
)
def test_one_is_singular_and_all_others_are_plural(number: float, words: str) -> None:
    assert counted(number, "epoch") == words


def test_a_plural_of_its_own() -> None:
    assert [counted(number, "branch", "branches") for number in (1, 2)] == [
        "1 branch",
        "2 branches",
    ]
