"""What encoding did to a source: counts, and everything that was lost on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import reduce
from operator import add
from typing import ClassVar, TypeVar

Report = TypeVar("Report", bound="EncodingReport")


_KINDS: dict[str, type[EncodingReport]] = {}
"""Task -> the counts that are kept of its shards."""


def report_of(task: str, counts: Mapping[str, int]) -> EncodingReport:
    """The report of a task's shard from its counts."""
    return _KINDS[task](**counts)


@dataclass(frozen=True)
class EncodingReport:
    """Counts over a shard or a source, of one task; reports of parts are added up with ``+``."""

    tasks: ClassVar[tuple[str, ...]]
    """Names of the tasks whose shards are counted in this way."""
    columns: ClassVar[Mapping[str, str]]
    """Count -> its title, in the order of a table."""
    ratio: ClassVar[tuple[str, str]]
    """The counts whose quotient a table has as its last column."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _KINDS.update(dict.fromkeys(cls.tasks, cls))

    def __add__(self: Report, other: Report) -> Report:
        return type(self)(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def is_complete(self) -> bool:
        """Whether nothing was lost."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, int]:
        """The counts by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SentenceReport(EncodingReport):
    """Counts over sentences whose words are tagged."""

    tasks = ("token_classification",)
    columns: ClassVar[Mapping[str, str]] = {
        "sentences": "sentences",
        "words": "words",
        "tokens": "tokens",
        "entities": "entities",
        "sentences_truncated": "sentences cut",
        "words_truncated": "words cut off",
        "words_without_pieces": "words without pieces",
        "entities_cut": "entities cut",
        "entities_lost": "entities lost",
    }
    ratio = ("tokens", "words")

    sentences: int = 0
    words: int = 0
    tokens: int = 0
    """Pieces that are kept, special tokens included."""
    sentences_truncated: int = 0
    """Sentences with more pieces than ``max_length`` leaves room for."""
    words_truncated: int = 0
    """Words whose first piece was cut off: they have no label in training and count as "O" in
    evaluation."""
    words_without_pieces: int = 0
    """Words that the tokenizer turns into nothing (a lone zero-width space)."""
    entities: int = 0
    entities_cut: int = 0
    """Entities of which some words, not all, were truncated or have no piece."""
    entities_lost: int = 0
    """Entities of which no word is left."""

    @property
    def is_complete(self) -> bool:
        """Whether every word and entity is encoded."""
        lost = self.words_truncated + self.words_without_pieces
        return lost + self.entities_cut + self.entities_lost == 0


@dataclass(frozen=True)
class ChoiceReport(EncodingReport):
    """Counts over samples of a context and choices; a pair is a context with one choice."""

    tasks = ("multiple_choice",)
    columns: ClassVar[Mapping[str, str]] = {
        "samples": "samples",
        "choices": "choices",
        "tokens": "tokens",
        "samples_truncated": "samples cut",
        "contexts_truncated": "contexts cut",
        "context_tokens_cut": "context tokens cut off",
        "choices_truncated": "choices cut",
        "choice_tokens_cut": "choice tokens cut off",
    }
    ratio = ("tokens", "choices")

    samples: int = 0
    choices: int = 0
    """Pairs."""
    tokens: int = 0
    """Pieces that are kept in all pairs, special tokens included."""
    samples_truncated: int = 0
    """Samples of which at least one pair was too long."""
    contexts_truncated: int = 0
    """Pairs that lost tokens of the context, on the left."""
    context_tokens_cut: int = 0
    choices_truncated: int = 0
    """Pairs whose choice alone was too long, and was cut on the right."""
    choice_tokens_cut: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every token is kept."""
        return self.samples_truncated == 0


@dataclass(frozen=True)
class TextReport(EncodingReport):
    """Counts over samples of a text, or of a pair of texts."""

    tasks = ("sequence_classification",)
    columns: ClassVar[Mapping[str, str]] = {
        "samples": "samples",
        "pairs": "pairs",
        "tokens": "tokens",
        "samples_truncated": "samples cut",
        "tokens_cut": "tokens cut off",
    }
    ratio = ("tokens", "samples")

    samples: int = 0
    pairs: int = 0
    """Samples that have a second text."""
    tokens: int = 0
    """Pieces that are kept, special tokens included."""
    samples_truncated: int = 0
    """Samples with more pieces than ``max_length``."""
    tokens_cut: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every token is kept."""
        return self.samples_truncated == 0


@dataclass(frozen=True)
class DocumentReport(EncodingReport):
    """Counts over texts that language models learn from; none of their tokens is lost."""

    tasks = ("masked_lm", "causal_lm")
    columns: ClassVar[Mapping[str, str]] = {
        "texts": "texts",
        "sequences": "sequences",
        "tokens": "tokens",
        "texts_cut": "texts cut",
        "words_cut": "words cut",
        "empty_texts": "empty texts",
        "unknown_tokens": "unknown tokens",
    }
    ratio = ("tokens", "sequences")

    texts: int = 0
    sequences: int = 0
    """Parts of texts, none of them longer than ``max_length``: what is a sample in training."""
    tokens: int = 0
    """Special tokens included."""
    texts_cut: int = 0
    """Texts of two sequences or more."""
    words_cut: int = 0
    """Sequences that begin within a word, since a word has many tokens."""
    empty_texts: int = 0
    """Texts that the tokenizer turns into nothing: they have no sequence."""
    unknown_tokens: int = 0
    """Tokens that stand for characters that the tokenizer does not know."""

    @property
    def is_complete(self) -> bool:
        """True: what does not fit a sequence is in the next one."""
        return True


def render_table(rows: Sequence[tuple[str, EncodingReport]]) -> str:
    """A plain text table with one line for each named report, and their sum if there are more.

    All reports are of one task.
    """
    kind = rows[0][1]
    if len(rows) > 1:
        rows = [*rows, ("all", reduce(add, (report for _, report in rows)))]
    above, below = kind.ratio
    table = [["source", *kind.columns.values(), f"{above}/{below.removesuffix('s')}"]]
    for name, report in rows:
        counts = report.as_dict()
        ratio = counts[above] / counts[below] if counts[below] else 0.0
        table.append([name, *(f"{counts[key]:,}" for key in kind.columns), f"{ratio:.2f}"])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
