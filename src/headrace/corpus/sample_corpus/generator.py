"""Sentences of the sample corpus."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from headrace.corpus.sample_corpus.entity_types import LANGUAGES, NAME_FAMILIES
from headrace.corpus.sample_corpus.gazetteer import Gazetteer, load_gazetteer
from headrace.corpus.sample_corpus.grammar import Grammar, Pattern, Slot, load_grammar
from headrace.corpus.sample_corpus.noise import corrupt
from headrace.corpus.sample_corpus.randomness import digest, pick, seeded, shuffled
from headrace.errors import CorpusError, Problem

SPLITS = ("train", "validation", "test")
UNSEEN_SHARE = 0.4
"""Share of the mentions in validation and test whose name no training sentence can contain."""
_OPENER_SHARE = 0.25
_CLOSER_SHARE = 0.25


@dataclass(frozen=True)
class Sentence:
    """One sentence with its IOB2 tags.

    ``tokens`` and ``tags`` have the same length; ``subset`` is ``"clean"`` or ``"noisy"``.
    """

    id: str
    language: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    subset: str


def generate(
    language: str, split: str, sentences: int, seed: int, *, noisy_share: float = 0.0
) -> Iterator[Sentence]:
    """Return an iterator over ``sentences`` made-up sentences.

    The sentences depend on nothing but the arguments; a larger ``sentences`` adds to the end, and
    ``noisy_share`` changes which sentences carry typing errors and nothing else.  Templates come in
    blocks in which each is used once, so that a few hundred sentences show every entity type.

    Raises:
        CorpusError: naming every argument that is out of range.
    """
    problems: list[Problem] = []
    if language not in LANGUAGES:
        problems.append(
            Problem(
                what="there is no sample corpus in this language",
                where="language",
                value=language,
                remedy=f"Use one of {', '.join(LANGUAGES)}.",
            )
        )
    if split not in SPLITS:
        problems.append(
            Problem("unknown split", "split", split, f"Use one of {', '.join(SPLITS)}.")
        )
    if sentences < 0:
        problems.append(Problem("the number of sentences is negative", "sentences", str(sentences)))
    if not 0.0 <= noisy_share <= 1.0:
        problems.append(
            Problem("not a share", "noisy_share", str(noisy_share), "Give a number from 0 to 1.")
        )
    if problems:
        raise CorpusError(problems)
    return _sentences(language, split, sentences, seed, noisy_share)


def _sentences(
    language: str, split: str, sentences: int, seed: int, noisy_share: float
) -> Iterator[Sentence]:
    grammar, gazetteer = load_grammar(language), load_gazetteer(language)
    held_out_share = 0.0 if split == "train" else UNSEEN_SHARE
    source = seeded("sentences", language, split, seed)
    order: list[int] = []
    for number in range(sentences):
        if not order:
            order = shuffled(source, len(grammar.templates))
        writer = _Writer(grammar, gazetteer, held_out_share, source)
        if source.random() < _OPENER_SHARE:
            writer.add(pick(source, grammar.openers))
        writer.add(grammar.templates[order.pop()])
        if source.random() < _CLOSER_SHARE:
            writer.add_before_full_stop(pick(source, grammar.closers))
        tokens, subset = tuple(writer.tokens), "clean"
        # A generator of its own, so that noise never shifts the draws of the sentences after it.
        noise = seeded("noise", language, split, seed, number)
        if noise.random() < noisy_share:
            corrupted = corrupt(tokens, language, noise)
            if corrupted != tokens:
                tokens, subset = corrupted, "noisy"
        name = digest("id", language, split, seed, number, size=16)
        yield Sentence(
            id=str(uuid.UUID(bytes=name, version=4)),
            language=language,
            tokens=tokens,
            tags=tuple(writer.tags),
            subset=subset,
        )


class _Writer:
    """Collects the tokens and tags of one sentence."""

    def __init__(
        self,
        grammar: Grammar,
        gazetteer: Gazetteer,
        held_out_share: float,
        source: random.Random,
    ) -> None:
        self._grammar = grammar
        self._gazetteer = gazetteer
        self._held_out_share = held_out_share
        self._source = source
        self.tokens: list[str] = []
        self.tags: list[str] = []

    def add(self, pattern: Pattern) -> None:
        """Write out a pattern at the end."""
        for part in pattern:
            if isinstance(part, Slot) and part.name in NAME_FAMILIES:
                name = self._gazetteer.draw(part.name, self._held_out_share, self._source)
                self.tokens.extend(name)
                self.tags.append(f"B-{part.name}")
                self.tags.extend([f"I-{part.name}"] * (len(name) - 1))
                continue
            text = (
                self._grammar.fill(part.name, self._source)
                if isinstance(part, Slot)
                else pick(self._source, part)
            )
            words = self._grammar.tokenize(text)
            self.tokens.extend(words)
            self.tags.extend(["O"] * len(words))

    def add_before_full_stop(self, pattern: Pattern) -> None:
        """Add a phrase; a danda or an ideographic stop ends the sentence before it instead."""
        full_stop = self.tokens[-1] == "."
        if full_stop:
            del self.tokens[-1], self.tags[-1]
        self.add(pattern)
        if full_stop:
            self.tokens.append(".")
            self.tags.append("O")
