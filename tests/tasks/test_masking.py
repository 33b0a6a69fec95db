"""Which tokens are masked: against a plain implementation, and as properties."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.encoding.task_encoder import offsets_of
from headrace.errors import EncodingError
from headrace.stream.feistel import derive_key, derive_keys
from headrace.stream.plan import Locations
from headrace.tasks.masking import (
    Sequences,
    Vocabulary,
    chosen_tokens,
    keys_of,
    mask,
    words_masked,
)

_spec = importlib.util.spec_from_file_location(
    "plain_masking", Path(__file__).with_name("plain_masking.py")
)
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

SPECIAL = {0, 1, 2, 9}
IS_SPECIAL = np.isin(np.arange(60), sorted(SPECIAL))
VOCABULARY = Vocabulary(9, IS_SPECIAL, np.flatnonzero(~IS_SPECIAL))


def sequences_of(rows: list[list[int]], starts: list[list[bool]] | None = None) -> Sequences:
    return Sequences(
        np.array([token for row in rows for token in row], dtype=np.int64),
        offsets_of(np.array([len(row) for row in rows], dtype=np.int64)),
        None if starts is None else np.array([start for row in starts for start in row], bool),
    )


def places(rows: list[tuple[int, int, int, int]]) -> Locations:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Locations(*columns)


def masked_rows(
    rows: list[list[int]], starts: Any, key: int, where: Locations, share: float
) -> list[tuple[list[int], list[int]]]:
    sources: Any = [SimpleNamespace(language="en"), SimpleNamespace(language="hi")]
    sequences = sequences_of(rows, starts)
    ids, labels = mask(sequences, keys_of(key, sources, where), share, VOCABULARY)
    edges = sequences.offsets
    return [
        (ids[edges[row] : edges[row + 1]].tolist(), labels[edges[row] : edges[row + 1]].tolist())
        for row in range(len(rows))
    ]


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]], list[Any]]:
    rows = draw(st.lists(st.lists(st.integers(0, 59), min_size=1, max_size=30), min_size=1))
    starts = [draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))) for row in rows]
    number = st.integers(0, 2**40)
    where = [draw(st.tuples(st.integers(0, 1), number, number, number)) for _ in rows]
    return rows, starts, where


@given(batches(), st.booleans(), st.floats(0.01, 0.99), st.integers(0, 2**64 - 1))
def test_masks_are_those_of_a_plain_implementation(
    batch: Any, whole_word: bool, share: float, key: int
) -> None:
    rows, starts, where = batch
    words = starts if whole_word else None
    found = masked_rows(rows, words, key, places(where), share)
    for row, (source, *place) in enumerate(where):
        expected = plain.masked(
            rows[row], words[row] if words else None,
            plain.key_of(key, ("en", "hi")[source]), place, share,
            SPECIAL, VOCABULARY.ordinary.tolist(), VOCABULARY.mask,
        )  # fmt: skip
        assert found[row] == expected


@given(batches(), st.booleans(), st.randoms(use_true_random=False))
def test_the_rest_of_a_batch_has_no_part_in_a_mask(batch: Any, whole_word: bool, chance: Any):
    rows, starts, where = batch
    order = list(range(len(rows)))
    chance.shuffle(order)
    order = order[: max(1, len(order) // 2)]
    together = masked_rows(rows, starts if whole_word else None, 5, places(where), 0.4)
    some = masked_rows(
        [rows[n] for n in order], [starts[n] for n in order] if whole_word else None,
        5, places([where[n] for n in order]), 0.4,
    )  # fmt: skip
    assert some == [together[n] for n in order]


@given(batches(), st.floats(0.01, 0.99))
def test_words_are_masked_whole_and_special_tokens_never(batch: Any, share: float) -> None:
    rows, starts, where = batch
    for row, (_, labels), own in zip(
        rows, masked_rows(rows, starts, 5, places(where), share), starts, strict=True
    ):
        word = np.cumsum([True, *own[1:]])
        ordinary = [token not in SPECIAL for token in row]
        fates: dict[int, set[bool]] = {}
        for number, label, may_be, token in zip(word, labels, ordinary, row, strict=True):
            if may_be:
                fates.setdefault(number, set()).add(label >= 0)
                assert label in (-100, token)
            else:
                assert label == -100
        assert all(len(fate) == 1 for fate in fates.values())
        count = sum(fate == {True} for fate in fates.values())
        assert count in (math.floor(share * len(fates)), math.floor(share * len(fates)) + 1)


@given(batches(), st.floats(0.01, 0.99))
def test_labels_are_counted_without_the_tokens(batch: Any, share: float) -> None:
    rows, _, _ = batch
    counts = np.array([sum(token not in SPECIAL for token in row) for row in rows])
    keys = derive_keys(7, np.arange(len(rows)))
    chosen = chosen_tokens(sequences_of(rows), keys, share, VOCABULARY)
    assert words_masked(counts, keys, share).sum() == chosen.sum()


LONGEST = 40


@pytest.fixture(scope="module")
def many() -> tuple[Sequences, np.ndarray, np.ndarray]:
    """One sequence with words of 1 to 6 tokens in 20,000 places, and what it becomes there."""
    chance = np.random.default_rng(0)
    row = [0, *chance.integers(10, 60, LONGEST - 2).tolist(), 2]
    starts = [True, *(chance.random(LONGEST - 2) < 0.5).tolist(), True]
    sequences = sequences_of([row] * 20_000, [starts] * 20_000)
    keys = derive_keys(derive_key("any"), np.arange(20_000))
    ids, labels = mask(sequences, keys, 0.15, VOCABULARY)
    return sequences, ids.reshape(-1, LONGEST), labels.reshape(-1, LONGEST)


def test_every_token_is_masked_with_the_share_that_was_asked_for(many: Any) -> None:
    """Also the tokens of long words, and those at the edges: within 4 standard deviations."""
    _, _, labels = many
    shares = (labels >= 0).mean(0)
    spread = math.sqrt(0.15 * 0.85 / len(labels))
    assert shares[0] == shares[-1] == 0
    assert np.abs(shares[1:-1] - 0.15).max() < 4 * spread
    # a share of the words of each sequence: less chance than if each word had its own
    assert (labels >= 0).sum(1).std() < 0.8 * math.sqrt(LONGEST * 0.15 * 0.85) * 2


def test_of_the_masked_tokens_80_percent_are_masks_10_others_10_as_they_were(many: Any) -> None:
    sequences, ids, labels = many
    tokens = sequences.tokens.reshape(-1, LONGEST)
    chosen = labels >= 0
    assert np.array_equal(ids[~chosen], tokens[~chosen])
    count = chosen.sum()
    became = ids[chosen]
    others = (became != VOCABULARY.mask) & (became != tokens[chosen])
    size = len(VOCABULARY.ordinary)
    for found, expected in (
        ((became == VOCABULARY.mask).mean(), 0.8),
        (others.mean(), 0.1 * (1 - 1 / size)),
    ):
        assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    seen = np.bincount(became[others], minlength=60)
    assert seen[sorted(SPECIAL)].sum() == 0
    usual = others.sum() / size
    assert np.abs(seen[VOCABULARY.ordinary] - usual).max() < 5 * math.sqrt(usual)


def test_tokens_are_masked_independently_of_their_places(many: Any) -> None:
    """Words next to each other are not masked together more often than others."""
    sequences, _, labels = many
    starts = sequences.word_starts[:LONGEST]
    first = np.flatnonzero(starts)[1:-1]
    chosen = (labels[:, first] >= 0).astype(float)
    correlation = np.corrcoef(chosen.T)
    beside = np.diagonal(correlation, 1)
    assert np.abs(beside - beside.mean()).max() < 5 / math.sqrt(len(labels))
    assert abs(beside.mean()) < 3 / len(first)  # below 0: a fixed share of the words is taken


@pytest.mark.parametrize("changed", [0, 1, 2, 3, "key"])
def test_another_source_shard_sequence_pass_or_key_masks_anew(changed: int | str) -> None:
    rows = [list(range(10, 50))]
    place = [0, 3, 7, 2]
    before = masked_rows(rows, None, 5, places([tuple(place)]), 0.15)
    key = 6 if changed == "key" else 5
    if isinstance(changed, int):
        place[changed] = 1 - place[0] if changed == 0 else place[changed] + 1
    assert masked_rows(rows, None, key, places([tuple(place)]), 0.15) != before


def test_the_vocabulary_of_a_tokenizer(minilm: Path) -> None:
    from headrace.encoding.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(minilm)
    found = Vocabulary.of(tokenizer)
    assert found.mask == tokenizer.mask_token_id
    special = set(tokenizer.all_special_ids)
    assert set(np.flatnonzero(found.is_special)) == special
    assert not special & set(found.ordinary.tolist())
    assert len(found.ordinary) + len(special) == len(tokenizer)
    tokenizer.mask_token = None
    with pytest.raises(EncodingError, match="mask token"):
        Vocabulary.of(tokenizer)
