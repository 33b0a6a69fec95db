from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tasks.choice_metrics import ChoiceScores

answers = st.lists(
    st.integers(2, 5).flatmap(
        lambda choices: st.tuples(
            st.integers(0, choices - 1),
            st.integers(0, choices - 1),
            st.just(choices),
            st.sampled_from([None, "clean", "noisy"]),
            st.sampled_from([None, "cause", "effect"]),
        )
    ),
    max_size=30,
)


def account(rows: list[tuple[int, int, int, str | None, str | None]]) -> ChoiceScores:
    scores = ChoiceScores()
    for label, predicted, choices, subset, question in rows:
        scores.update(label, predicted, choices, subset=subset, question=question)
    return scores


@given(answers, st.integers(1, 4), st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_the_division(
    rows: list[tuple[int, int, int, str | None, str | None]], ranks: int, chance: random.Random
) -> None:
    shares = [account(rows[rank::ranks]) for rank in range(ranks)]
    chance.shuffle(shares)
    merged = ChoiceScores()
    for share in shares:
        merged.merge(json.loads(json.dumps(share.counts())))
    assert merged.result() == account(rows).result()


@given(answers)
def test_scores_are_plain_means(
    rows: list[tuple[int, int, int, str | None, str | None]],
) -> None:
    result = account(rows).result()
    groups = [(result, rows)]
    for kind, place in (("subsets", 3), ("questions", 4)):
        names = {row[place] for row in rows} - {None}
        assert set(result[kind]) == names
        groups += [
            (result[kind][name], [row for row in rows if row[place] == name]) for name in names
        ]
    for found, members in groups:
        count = max(1, len(members))
        assert found["samples"] == len(members)
        assert found["accuracy"] == pytest.approx(sum(a == b for a, b, *_ in members) / count)
        assert found["chance"] == pytest.approx(sum(1 / n for _, _, n, *_ in members) / count)


def test_counts_of_another_version_are_refused() -> None:
    counts = account([(0, 0, 2, None, None)]).counts()
    with pytest.raises(ValueError, match="another version"):
        ChoiceScores().merge({**counts, "version": 0})
