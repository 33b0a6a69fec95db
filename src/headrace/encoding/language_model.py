"""Texts for language modelling as arrays: each is cut into sequences, and nothing is lost.

What the stream and the batches count as a sample is a sequence, so that a batch has the size that
was asked for whatever the lengths of texts are.  Sequences are filled from the left and end where
a word begins, if one begins in their second half; else they end within a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.encoding.pairs import copied_backend
from headrace.encoding.report import DocumentReport
from headrace.encoding.task_encoder import (
    MAXIMUM_NAMES,
    SAMPLES_AT_ONCE,
    EncodedSamples,
    EncodingSpec,
    SampleProblems,
    offsets_of,
)
from headrace.encoding.word_starts import (
    code_points,
    word_starts_of_text,
    word_starts_of_tokens,
)
from headrace.errors import EncodingError, Problem, ShardError

if TYPE_CHECKING:
    from headrace.shards.sample import Sample

_CHARACTERS_AT_ONCE = 1 << 20
"""Characters, about, that are given to the tokenizer in one call, however few texts they are."""


@dataclass(frozen=True)
class Frame:
    """The special tokens around sequences."""

    before: tuple[int, ...]
    """In front of every sequence."""
    after: tuple[int, ...] = ()
    """Behind every sequence."""
    end: tuple[int, ...] = ()
    """Behind the last token of a text, as if they were a word of it."""

    @property
    def size(self) -> int:
        """Tokens around each sequence."""
        return len(self.before) + len(self.after)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that are not made of text: of the roles, and others that say so."""
    added = tokenizer.added_tokens_decoder
    others = {number for number, token in added.items() if token.special}
    return frozenset(tokenizer.all_special_ids) | others


def frame_of_masked_lm(tokenizer: Any) -> Frame:
    """What a tokenizer's own template puts around a text: ``[CLS] ... [SEP]``."""
    backend = tokenizer.backend_tokenizer
    encoding = backend.encode("a", add_special_tokens=True)
    inside = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
    if not len(inside):
        return Frame(())
    first, last = int(inside[0]), int(inside[-1])
    return Frame(tuple(encoding.ids[:first]), tuple(encoding.ids[last + 1 :]))


def frame_of_causal_lm(tokenizer: Any) -> Frame:
    """A token that every sequence begins with, and one that ends a text.

    The first makes every token of a text one that is predicted.  Where a tokenizer has no token
    for a role, the next of its kind takes it; :class:`EncodingError` if there is none.
    """
    begin = (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.eos_token_id)
    end = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id)
    first = next((number for number in begin if number is not None), None)
    last = next((number for number in end if number is not None), None)
    if first is None or last is None:
        raise EncodingError(
            Problem(
                "the tokenizer has no token for the beginning and the end of a text",
                "the tokenizer",
                str(getattr(tokenizer, "name_or_path", "")),
                "Set its bos_token and eos_token, then save_pretrained",
            )
        )
    return Frame((first,), (), (last,))


class LanguageModelEncoder:
    """Encodes the ``txt`` field of samples; ``subset`` in field ``json`` names a part of the data.

    Problems of all samples seen are gathered in ``problems``; from the first one on samples are
    checked and no longer encoded.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        *,
        task: str,
        frame: Frame,
        words: bool = False,
        byte_counts: bool = False,
        special_labels: bool = False,
    ) -> None:
        """Raise :class:`EncodingError` if `max_length` leaves no room for two tokens of a text.

        Args:
            tokenizer: a fast tokenizer.
            max_length: tokens of a sequence at most, special tokens included.
            task: name of the task.
            frame: the special tokens.
            words: keep where words begin.
            byte_counts: keep how many bytes of the text a sequence stands for.
            special_labels: tokens that are special in a text (unknown ones, its end) can be labels.
        """
        if max_length < frame.size + 2:
            raise EncodingError(
                Problem(
                    "the maximum length is out of range",
                    "max_length",
                    str(max_length),
                    f"Use {frame.size + 2} or more",
                )
            )
        self.task = task
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._frame = frame
        self._words = words
        self._bytes = byte_counts
        self._special_labels = special_labels
        self._token_type = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        self._problems = SampleProblems()

    @cached_property
    def _backend(self) -> Any:
        # Copying a large tokenizer takes a while and is needed only where something is encoded.
        return copied_backend(self._tokenizer)

    @cached_property
    def _is_special(self) -> NDArray[np.bool_]:
        special = sorted(special_ids(self._tokenizer))
        table = np.zeros(max([*self._tokenizer.get_vocab().values(), *special]) + 1, dtype=np.bool_)
        table[special] = True
        return table

    @cached_property
    def spec(self) -> EncodingSpec:
        """What the arrays depend on besides the text."""
        frame = self._frame
        parts = [frame.before, frame.after, frame.end, sorted(special_ids(self._tokenizer))]
        template = f"texts {json.dumps(parts)}{', words' if self._words else ''}"
        return EncodingSpec.of(self.task, self._tokenizer, self._max_length, template=template)

    @property
    def array_types(self) -> Mapping[str, np.dtype[Any]]:
        """Name and dtype of every array of a shard with n texts, cut into m sequences.

        ``tokens`` lie flat between ``token_offsets`` ``[m + 1]``, and so does ``word_starts``,
        where it is asked for: whether a word begins at a token.  ``label_counts`` (tokens that can
        be labels), ``subsets`` and ``byte_counts``, where they are asked for, are ``[m]``.  The
        sequences of a text lie between ``text_offsets`` ``[n + 1]``.
        """
        types = {
            "tokens": self._token_type,
            "token_offsets": np.int64,
            "text_offsets": np.int64,
            "label_counts": np.int32,
            "subsets": np.uint8,
            **({"word_starts": np.bool_} if self._words else {}),
            **({"byte_counts": np.int64} if self._bytes else {}),
        }
        return {name: np.dtype(type_) for name, type_ in types.items()}

    @property
    def problems(self) -> list[Problem]:
        """Malformed samples seen so far: one entry a sample, and a count of the rest."""
        return self._problems.listed()

    def encode(
        self, samples: Iterable[Sample], shard: str, progress: Callable[[int], object]
    ) -> EncodedSamples | None:
        """Encode all samples of the shard of this name; None if there are problems.

        The facts hold ``sequences``, how many there are.
        """
        pieces: list[_Sequence] = []
        counts: list[int] = []
        numbers: list[int] = []
        subsets: dict[str | None, int] = {None: 0}
        for chunk in _chunks(samples):
            texts = []
            for sample in chunk:
                checked = self._checked(sample, shard)
                if checked is not None:
                    text, subset = checked
                    texts.append(text)
                    numbers.append(subsets.setdefault(subset, len(subsets)))
            if not self._problems:
                for text, encoding in zip(
                    texts, self._backend.encode_batch(texts, add_special_tokens=False), strict=True
                ):
                    of_text = self._cut(text, encoding)
                    pieces += of_text
                    counts.append(len(of_text))
            progress(len(chunk))
        if len(subsets) - 1 > MAXIMUM_NAMES:
            what = f"{len(subsets) - 1} different subsets, {MAXIMUM_NAMES} are the most"
            self._problems.add(Problem(what, f"shard {shard}"))
        if self._problems:
            return None
        names = tuple(name for name in subsets if name is not None)
        return EncodedSamples(
            self._arrays(pieces, counts, numbers),
            self._report(pieces, counts),
            names,
            {"sequences": len(pieces)},
        )

    def _cut(self, text: str, encoding: Any) -> list[_Sequence]:
        """The sequences of a text; none for a text without a token."""
        if not encoding.ids:
            return []
        codes = code_points(text)
        starts, first = word_starts_of_tokens(codes, word_starts_of_text(codes), encoding.offsets)
        ids = np.array([*encoding.ids, *self._frame.end], dtype=np.int64)
        starts = np.append(starts, np.ones(len(self._frame.end), dtype=np.bool_))
        cuts = cut_at_words(starts, self._max_length - self._frame.size)
        sizes = (
            1
            + (codes > 0x7F).astype(np.int64)
            + (codes > 0x7FF).astype(np.int64)
            + (codes > 0xFFFF).astype(np.int64)
        )
        bytes_before = offsets_of(sizes)
        # What lies in front of a text's first token, and behind its last, belongs to these.
        places = np.append(first, np.full(len(ids) + 1 - len(first), len(codes)))
        edges = bytes_before[places[cuts]]
        edges[0] = 0
        return [
            _Sequence(ids[start:end], starts[start:end], int(count))
            for start, end, count in zip(cuts[:-1], cuts[1:], np.diff(edges), strict=True)
        ]

    def _arrays(
        self, pieces: Sequence[_Sequence], counts: list[int], numbers: list[int]
    ) -> dict[str, NDArray[Any]]:
        before, after = (
            np.array(ids, dtype=np.int64) for ids in (self._frame.before, self._frame.after)
        )
        sizes = np.array([len(piece.ids) for piece in pieces], dtype=np.int64)
        offsets = offsets_of(sizes + self._frame.size)
        tokens = np.empty(int(offsets[-1]), dtype=np.int64)
        words = np.ones(int(offsets[-1]), dtype=np.bool_)
        inside = np.ones(int(offsets[-1]), dtype=np.bool_)
        for number, token in enumerate(before):
            tokens[offsets[:-1] + number] = token
            inside[offsets[:-1] + number] = False
        for number, token in enumerate(after):
            tokens[offsets[1:] - len(after) + number] = token
            inside[offsets[1:] - len(after) + number] = False
        if pieces:
            tokens[inside] = np.concatenate([piece.ids for piece in pieces])
            words[inside] = np.concatenate([piece.word_starts for piece in pieces])
        is_label = inside if self._special_labels else ~self._is_special[tokens]
        labels = np.diff(np.concatenate(([0], np.cumsum(is_label)))[offsets])
        arrays = {
            "tokens": tokens,
            "token_offsets": offsets,
            "text_offsets": offsets_of(np.array(counts, dtype=np.int64)),
            "label_counts": labels,
            "subsets": np.repeat(numbers, counts) if counts else np.zeros(0),
            "word_starts": words,
            "byte_counts": np.array([piece.bytes for piece in pieces]),
        }
        return {name: arrays[name].astype(type_) for name, type_ in self.array_types.items()}

    def _report(self, pieces: Sequence[_Sequence], counts: list[int]) -> DocumentReport:
        unknown = self._tokenizer.unk_token_id
        return DocumentReport(
            texts=len(counts),
            sequences=len(pieces),
            tokens=sum(len(piece.ids) for piece in pieces) + self._frame.size * len(pieces),
            texts_cut=sum(count > 1 for count in counts),
            words_cut=sum(not piece.word_starts[0] for piece in pieces),
            empty_texts=sum(count == 0 for count in counts),
            unknown_tokens=sum(
                int((piece.ids == unknown).sum()) for piece in pieces if unknown is not None
            ),
        )

    def _checked(self, sample: Sample, shard: str) -> tuple[str, str | None] | None:
        """The text of a sample and its subset, or None after noting what is wrong with it."""
        try:
            text = sample.text
            subset = sample.metadata.get("subset") if "json" in sample.fields else None
        except ShardError as error:
            for p in error.problems:
                self._problems.add(Problem(p.what, f"shard {shard} {p.where}", p.value, p.remedy))
            return None
        if subset is not None and not isinstance(subset, str):
            place = f"shard {shard} sample {sample.key}"
            self._problems.add(Problem("subset is not a string", place, str(subset)[:80]))
            return None
        return text, subset


@dataclass(frozen=True)
class _Sequence:
    """A part of a text, without the special tokens around it."""

    ids: NDArray[np.int64]
    word_starts: NDArray[np.bool_]
    bytes: int


def cut_at_words(word_starts: NDArray[np.bool_], room: int) -> NDArray[np.int64]:
    """Cut tokens into stretches of at most ``room``: where each begins, and where the last ends.

    A stretch is as long as it can be and ends where a word begins; where none begins in its second
    half, it has ``room`` tokens.
    """
    count = len(word_starts)
    places = np.flatnonzero(word_starts)
    cuts = [0]
    while count - cuts[-1] > room:
        latest = cuts[-1] + room
        word = int(places[np.searchsorted(places, latest, side="right") - 1])
        cuts.append(word if word >= latest - room // 2 and word > cuts[-1] else latest)
    cuts.append(count)
    return np.array(cuts, dtype=np.int64)


def _chunks(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Samples in groups that are tokenized at once: not too many, nor too much text."""
    chunk: list[Sample] = []
    size = 0
    for sample in samples:
        chunk.append(sample)
        size += len(sample.fields.get("txt", b""))
        if len(chunk) == SAMPLES_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
