"""Which tokens of a batch are masked, and what stands in their place.

All is a function of one key a sequence, made of the seed, the stage, where the sequence lies and
how often the stage has gone through its source: ranks, workers, world size and the rest of the
batch have no part in it.  The next pass masks anew.

A share of the words of a sequence is masked, or of its tokens: a share ``p`` of ``m`` is ``p * m``
rounded up or down by chance, so that it is ``p`` on average, exactly, for every token.  Of the
masked tokens, as in BERT (Devlin et al. 2019), 80 % become the mask token and 10 % another token
of the vocabulary; 10 % stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.encoding.collate import SampleLocations
from headrace.encoding.language_model import special_ids
from headrace.encoding.sidecar import EncodedSource
from headrace.encoding.token_classification import IGNORED
from headrace.errors import EncodingError, Problem
from headrace.stream.feistel import Int64Array, UInt64Array, derive_key, derive_keys

MASKED_SHARE = 0.15
"""Share of the tokens that is masked by default."""
_MASK, _REPLACE = 0.8, 0.1
"""Shares of the masked tokens that become the mask token, and another one."""
_ROUNDING, _FATE, _REPLACEMENT = -1, -2, -3
"""Numbers, apart from those of words, of the draws that belong to a sequence."""


@dataclass(frozen=True)
class Vocabulary:
    """What masking has to know of a tokenizer."""

    mask: int
    """Id of the mask token."""
    is_special: NDArray[np.bool_]
    """Of each id, whether it is special: such tokens are never masked."""
    ordinary: Int64Array
    """The other ids, ascending."""

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """That of a tokenizer; :class:`EncodingError` if it has no mask token."""
        if tokenizer.mask_token_id is None:
            raise EncodingError(
                Problem(
                    "the tokenizer has no mask token",
                    "headrace.model.tokenizer",
                    str(getattr(tokenizer, "name_or_path", "")),
                    "Add one: tokenizer.add_special_tokens, then save_pretrained",
                )
            )
        known = np.array(sorted(set(tokenizer.get_vocab().values())), dtype=np.int64)
        special = np.array(sorted(special_ids(tokenizer)), dtype=np.int64)
        is_special = np.zeros(int(max(known.max(), special.max())) + 1, dtype=np.bool_)
        is_special[special] = True
        return cls(int(tokenizer.mask_token_id), is_special, known[~is_special[known]])


@dataclass(frozen=True)
class Sequences:
    """Some sequences, one behind the other."""

    tokens: Int64Array
    """``[tokens]``, special ones included."""
    offsets: Int64Array
    """Where each begins, and where the last one ends; ``[sequences + 1]``."""
    word_starts: NDArray[np.bool_] | None = None
    """Whether a word begins at a token; None: every token is a word."""


def keys_of(key: int, sources: Sequence[EncodedSource], locations: SampleLocations) -> UInt64Array:
    """One key for each sequence, uint64 ``[sequences]``; sources are told by their names."""
    of_sources = np.array([derive_key(key, source.language) for source in sources], np.uint64)
    keys = of_sources[locations.source]
    passes = np.zeros_like(locations.sample) if locations.passes is None else locations.passes
    for numbers in (locations.shard, locations.sample, passes):
        keys = derive_keys(keys, numbers)
    return keys


def words_masked(word_counts: NDArray[Any], keys: UInt64Array, share: float) -> Int64Array:
    """How many words of each sequence are masked, int64 ``[sequences]``."""
    chance = _fraction(derive_keys(keys, np.full(len(keys), _ROUNDING)))
    return np.floor(share * word_counts + chance).astype(np.int64)


def chosen_tokens(
    sequences: Sequences, keys: UInt64Array, share: float, vocabulary: Vocabulary
) -> NDArray[np.bool_]:
    """Which tokens are masked, bool ``[tokens]``."""
    lengths = np.diff(sequences.offsets)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    may_be = ~vocabulary.is_special[sequences.tokens]
    starts = np.ones(len(sequences.tokens), dtype=np.bool_)
    if sequences.word_starts is not None:
        starts[:] = sequences.word_starts
        starts[sequences.offsets[:-1][lengths > 0]] = True
    words = np.cumsum(starts)[may_be]
    is_first = np.ones(len(words), dtype=np.bool_)
    is_first[1:] = words[1:] != words[:-1]
    of_word = sequence[may_be][is_first]
    counts = np.bincount(of_word, minlength=len(lengths))
    before = np.cumsum(counts) - counts
    numbers = np.arange(len(of_word)) - before[of_word]
    order = np.lexsort((derive_keys(keys[of_word], numbers), of_word))
    ranks = np.empty_like(numbers)
    ranks[order] = numbers  # words of a sequence are together, so are their places
    is_chosen = ranks < words_masked(counts, keys, share)[of_word]
    chosen = np.zeros(len(sequences.tokens), dtype=np.bool_)
    chosen[may_be] = is_chosen[np.cumsum(is_first) - 1]
    return chosen


def mask(
    sequences: Sequences, keys: UInt64Array, share: float, vocabulary: Vocabulary
) -> tuple[Int64Array, Int64Array]:
    """The tokens as a network gets to see them, and what it has to say; both int64 ``[tokens]``.

    Labels are the tokens that were masked, and :data:`IGNORED` elsewhere.
    """
    chosen = chosen_tokens(sequences, keys, share, vocabulary)
    places = np.flatnonzero(chosen)
    sequence = np.searchsorted(sequences.offsets, places, side="right") - 1
    inside = places - sequences.offsets[sequence]

    def draws(number: int) -> UInt64Array:
        of_sequences = derive_keys(keys, np.full(len(keys), number))
        return derive_keys(of_sequences[sequence], inside)

    fate = _fraction(draws(_FATE))
    count = np.uint64(len(vocabulary.ordinary))
    others = (draws(_REPLACEMENT) >> np.uint64(32)) * count >> np.uint64(32)
    is_mask, is_other = fate < _MASK, (fate >= _MASK) & (fate < _MASK + _REPLACE)
    ids = sequences.tokens.copy()
    ids[places[is_mask]] = vocabulary.mask
    ids[places[is_other]] = vocabulary.ordinary[others[is_other].astype(np.int64)]
    return ids, np.where(chosen, sequences.tokens, IGNORED)


def _fraction(keys: UInt64Array) -> NDArray[np.float64]:
    """Numbers from 0 to below 1."""
    found: NDArray[np.float64] = (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found
