"""The names that exist in a language, and which of them a split may use.

Every family is a fixed pool of composed names, independent of the seed of the corpus.  A part of
every pool is held out by a hash of the name's text, whatever its type: training never mentions it.
Within a type, popularity falls with rank as in Zipf's law.  Half of the popular names of a family
are popular in every type that draws from it, and half in one type only: a lexicon gets some of them
right and has no way to get all.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from headrace.corpus.sample_corpus.entity_types import NAME_FAMILIES
from headrace.corpus.sample_corpus.grammar import Grammar, load_grammar
from headrace.corpus.sample_corpus.randomness import fraction, pick, seeded

Name = tuple[str, ...]
"""The tokens of one name."""

POOL_SIZE = 2000
"""Names made for a family; fewer where its patterns have fewer combinations."""
HELD_OUT_SHARE = 0.3
"""Share of each pool that training never mentions."""
_ATTEMPTS_PER_NAME = 8
_RANK_OFFSET = 4.0
"""Flattens the head of Zipf's law, so that no single name dominates a type."""


@dataclass(frozen=True)
class Ranking:
    """The names of one family in the order of their popularity within one type."""

    share: float
    known: tuple[Name, ...]
    held_out: tuple[Name, ...]


@dataclass(frozen=True)
class Gazetteer:
    """All names of a language: type -> one ranking for each family that it draws from."""

    rankings: Mapping[str, tuple[Ranking, ...]]

    def draw(self, entity_type: str, held_out_share: float, source: random.Random) -> Name:
        """Return a name of ``entity_type``, a held-out one with this probability."""
        rankings = self.rankings[entity_type]
        ranking = rankings[0]
        choice = source.random()
        for ranking in rankings:
            choice -= ranking.share
            if choice < 0:
                break
        names = ranking.held_out if source.random() < held_out_share else ranking.known
        rank = _RANK_OFFSET * ((len(names) / _RANK_OFFSET + 1.0) ** source.random() - 1.0)
        return names[min(int(rank), len(names) - 1)]

    def names(self, entity_type: str) -> frozenset[Name]:
        """Return every name that ``entity_type`` can have."""
        rankings = self.rankings[entity_type]
        return frozenset(name for ranking in rankings for name in ranking.known + ranking.held_out)


def _make_pool(grammar: Grammar, family: str) -> tuple[Name, ...]:
    source = seeded("pool", grammar.language, family)
    patterns = grammar.names[family]
    pool: dict[Name, None] = {}
    for _ in range(POOL_SIZE * _ATTEMPTS_PER_NAME):
        pool[grammar.compose(pick(source, patterns), source)] = None
        if len(pool) == POOL_SIZE:
            break
    return tuple(pool)


@cache
def load_gazetteer(language: str) -> Gazetteer:
    """Compose all names of ``language``; the same on every call and every machine."""
    grammar = load_grammar(language)
    pools = {family: _make_pool(grammar, family) for family in grammar.names}
    held_out = {
        family: [fraction("held out", language, *name) < HELD_OUT_SHARE for name in pool]
        for family, pool in pools.items()
    }
    popularity: dict[str, list[float]] = {}
    for family, pool in pools.items():
        common_to_all = seeded("popularity", language, family)
        popularity[family] = [common_to_all.random() for _ in pool]
    rankings: dict[str, tuple[Ranking, ...]] = {}
    for entity_type, families in NAME_FAMILIES.items():
        ranked: list[Ranking] = []
        for family, share in families:
            pool, held = pools[family], held_out[family]
            own = seeded("popularity", language, family, entity_type)
            keys = [min(common, own.random()) for common in popularity[family]]
            order = sorted(range(len(pool)), key=keys.__getitem__)
            ranked.append(
                Ranking(
                    share=share,
                    known=tuple(pool[number] for number in order if not held[number]),
                    held_out=tuple(pool[number] for number in order if held[number]),
                )
            )
        rankings[entity_type] = tuple(ranked)
    return Gazetteer(rankings)
