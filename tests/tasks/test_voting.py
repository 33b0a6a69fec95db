from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.tasks.spans import lenient_spans, strict_spans
from headrace.tasks.voting import NONE, classes_of, majority, mean_probabilities, valid_tags

TAGS = ("O", "B-a", "I-a", "B-b", "I-b")
VOTES = st.lists(
    st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=5
)  # fmt: skip


@given(VOTES)
def test_a_majority_by_hand(votes: list[list[int]]) -> None:
    expected = []
    for item in range(6):
        given_votes = [row[item] for row in votes if row[item] != NONE]
        counts = Counter(given_votes)
        most = max(counts.values(), default=0)
        # the first model that is for one of those with the most votes decides
        expected.append(next((vote for vote in given_votes if counts[vote] == most), NONE))
    assert majority([np.array(row) for row in votes]).tolist() == expected


@given(st.lists(st.sampled_from(TAGS), max_size=9))
def test_tags_are_well_formed_and_lose_nothing(tags: list[str]) -> None:
    valid = valid_tags(tags)
    assert strict_spans(valid) == lenient_spans(valid) == lenient_spans(tags)
    if strict_spans(tags) == lenient_spans(tags):
        assert valid == tags


def test_means_leave_out_who_cannot_see() -> None:
    nothing = [np.nan] * 2
    shares = [np.array([[0.5, 0.5], [0.2, 0.8], nothing]), np.array([[0.9, 0.1], nothing, nothing])]
    mean = mean_probabilities(shares)
    assert np.allclose(mean[:2], [[0.7, 0.3], [0.2, 0.8]])
    assert classes_of(mean).tolist() == [0, 1, NONE]
