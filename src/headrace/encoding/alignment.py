"""Words to pieces: which token each word of a sentence begins with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headrace.encoding.task_encoder import offsets_of
from headrace.encoding.tokenizer import needs_space_before_words
from headrace.errors import EncodingError, Problem

LONGEST = 32_767
"""Largest ``max_length``: positions are stored as int16."""


@dataclass(frozen=True)
class AlignedBatch:
    """Sentences as tokens, and the position of every word; all arrays are flat."""

    tokens: NDArray[np.int64]
    """Token ids of all sentences, special tokens included."""
    token_offsets: NDArray[np.int64]
    """``[sentences + 1]``: where the tokens of a sentence begin and end."""
    word_positions: NDArray[np.int16]
    """``[words]``: index in its sentence of the word's first piece, -1 if it has none."""
    word_offsets: NDArray[np.int64]
    """``[sentences + 1]``: where the words of a sentence begin and end."""
    word_truncated: NDArray[np.bool_]
    """``[words]``: the word has pieces, but the first one is beyond the maximum length."""
    sentence_truncated: NDArray[np.bool_]
    """``[sentences]``: pieces were cut off."""

    def first_pieces(self) -> NDArray[np.int64]:
        """``[words]``: index in ``tokens`` of the word's first piece, -1 if it has none."""
        starts = np.repeat(self.token_offsets[:-1], np.diff(self.word_offsets))
        return np.where(self.word_positions >= 0, starts + self.word_positions, -1)


def join_batches(batches: Sequence[AlignedBatch]) -> AlignedBatch:
    """One batch of all the sentences of these, in order."""

    def joined(offsets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        return offsets_of(np.concatenate([_NOTHING, *map(np.diff, offsets)]))

    def flat(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
        return np.concatenate([_NOTHING, *arrays]).astype(dtype)

    return AlignedBatch(
        tokens=flat([batch.tokens for batch in batches], np.int64),
        token_offsets=joined([batch.token_offsets for batch in batches]),
        word_positions=flat([batch.word_positions for batch in batches], np.int16),
        word_offsets=joined([batch.word_offsets for batch in batches]),
        word_truncated=flat([batch.word_truncated for batch in batches], np.bool_),
        sentence_truncated=flat([batch.sentence_truncated for batch in batches], np.bool_),
    )


_NOTHING: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


class WordAligner:
    """Encodes sentences that are split into words, with a fast tokenizer.

    The tokenizer's backend is copied, so that nothing that is set here is seen elsewhere.
    Special tokens that are spelt out in a text are encoded as text: data cannot inject ``</s>``.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """Raise :class:`EncodingError` if `max_length` leaves no room for a piece."""
        check_max_length(tokenizer, max_length)
        backend: Any = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self._space = " " if needs_space_before_words(backend) else ""
        self._before, self._after = _special_tokens(backend)
        self.max_length = max_length
        """Tokens of a sentence at most, special tokens included."""
        self._room = max_length - len(self._before) - len(self._after)

    def align(self, sentences: Sequence[Sequence[str]]) -> AlignedBatch:
        """Encode sentences, each a list of words; cut on the right at ``max_length``."""
        space = self._space
        inputs = [[space + word if word else word for word in words] for words in sentences]
        encodings = self._backend.encode_batch(
            inputs, is_pretokenized=True, add_special_tokens=False
        )
        ids = [encoding.ids for encoding in encodings]
        counts = np.array([len(row) for row in ids], dtype=np.int64)
        pieces = _flat(ids)
        words_of_pieces = _flat(encoding.word_ids for encoding in encodings)

        kept = np.minimum(counts, self._room)
        before, after = len(self._before), len(self._after)
        token_offsets = offsets_of(kept + before + after)
        word_offsets = offsets_of(np.array([len(words) for words in sentences], dtype=np.int64))
        sentence = np.repeat(np.arange(len(counts)), counts)
        rank = np.arange(len(pieces)) - np.repeat(offsets_of(counts)[:-1], counts)
        is_kept = rank < self._room

        tokens = np.empty(int(token_offsets[-1]), dtype=np.int64)
        for number, token in enumerate(self._before):
            tokens[token_offsets[:-1] + number] = token
        for number, token in enumerate(self._after):
            tokens[token_offsets[1:] - after + number] = token
        tokens[(token_offsets[sentence] + before + rank)[is_kept]] = pieces[is_kept]

        word = word_offsets[sentence] + words_of_pieces
        is_first = np.ones(len(word), dtype=bool)
        is_first[1:] = word[1:] != word[:-1]
        positions = np.full(int(word_offsets[-1]), -1, dtype=np.int16)
        truncated = np.zeros(len(positions), dtype=bool)
        positions[word[is_first & is_kept]] = rank[is_first & is_kept] + before
        truncated[word[is_first & ~is_kept]] = True
        return AlignedBatch(
            tokens, token_offsets, positions, word_offsets, truncated, counts > kept
        )


def check_max_length(tokenizer: Any, max_length: int, *, pair: bool = False) -> None:
    """Raise :class:`EncodingError` if there is no room for a piece, or int16 is too small.

    Of a `pair` there has to be room for a piece of each part.
    """
    special = tokenizer.backend_tokenizer.num_special_tokens_to_add(pair)
    shortest = special + (2 if pair else 1)
    if not shortest <= max_length <= LONGEST:
        raise EncodingError(
            Problem(
                "the maximum length is out of range",
                "max_length",
                str(max_length),
                f"Use {shortest} to {LONGEST}",
            )
        )


def _special_tokens(backend: Any) -> tuple[list[int], list[int]]:
    """Ids of the special tokens that a sentence gets in front and behind."""
    encoding = backend.encode(["a"], is_pretokenized=True, add_special_tokens=True)
    is_special = np.array(encoding.special_tokens_mask, dtype=bool)
    pieces = np.flatnonzero(~is_special)
    first, last = int(pieces[0]), int(pieces[-1])
    return encoding.ids[:first], encoding.ids[last + 1 :]


def _flat(rows: Iterable[list[int]]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64)
