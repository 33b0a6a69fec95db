"""The ``"selection"`` section of a run as a job, and the problems of the job at their places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from headrace.config import RunConfig
from headrace.config.schema import (
    GraphCutHingeConfig,
    NeighboursConfig,
    SelectionConfig,
)
from headrace.config.section import Section
from headrace.config.selection import WHERE
from headrace.errors import UserError
from headrace.selection import IndexSettings, Limits
from headrace.selection.chosen import OBJECTIVES, Objective
from headrace.selection.doc2vec import Doc2VecSettings
from headrace.selection.hinge import Hinge
from headrace.selection.job import SelectionJob
from headrace.selection.selection import DEFAULT_HINGE, DEFAULT_TRADE_OFF
from headrace.training.sources import cache_of_run

_PLACES = {
    "encoder": "embedding.model",
    "pooling": "embedding.pooling",
    "max_length": "embedding.max_length",
    "vectors": "embedding.vectors",
    "ids": "embedding.ids",
    "costs": "embedding.costs",
    "embedding": "embedding",
    "require": "required",
    "cache": "cache_dir",
    "output": "cache_dir",
    "rows that must be in": "required",
    **{
        name: f"embedding.doc2vec.{name}"
        for name in ("vector_size", "epochs", "min_count", "window")
    },
}
"""Where the config has what problems of a job name otherwise."""
_OF_OBJECTIVE = {
    "trade_off": "lambda",
    "threshold": "threshold",
    "penalty": "penalty",
    **{
        name: name for name in ("neighbours", "index", "block", "lists", "probes", "links", "width")
    },
}
"""The same, within the section of the objective."""
_SAME = (
    "rows",
    "fraction",
    "budget",
    "minimum",
    "maximum",
    "proportional",
    "method",
    "group_by",
    "duplicate_cosine",
    "parts",
    "sample_rows",
    "warm_passes",
)
"""What is called the same in both."""


def job_of(config: RunConfig, section: SelectionConfig) -> SelectionJob:
    """The section as a job; its result has no place yet but the cache."""
    embedding = section.embedding
    objective, settings = _objective(section)
    doc2vec = embedding.doc2vec
    return SelectionJob(
        output=section.cache_dir,
        limits=Limits(
            section.rows,
            section.fraction,
            section.budget,
            section.minimum,
            section.maximum,
            section.proportional,
        ),
        sources={} if embedding.vectors is not None else config.headrace.data.train,
        encoder=embedding.model,
        pooling=embedding.pooling,
        max_length=embedding.max_length,
        doc2vec=Doc2VecSettings(**doc2vec.model_dump(), seed=section.seed) if doc2vec else None,
        cache=section.cache_dir,
        shard_cache=cache_of_run(config),
        vectors=embedding.vectors,
        ids=embedding.ids,
        costs=embedding.costs,
        group_by=section.group_by,
        require=section.required,
        objective=objective,
        hinge=_hinge(settings),
        method=section.method,
        index=_index(settings),
        trade_off=getattr(settings, "trade_off", DEFAULT_TRADE_OFF),
        seed=section.seed,
        parts=section.parts,
        sample_rows=section.sample_rows,
        warm_passes=section.warm_passes,
        duplicate_cosine=section.duplicate_cosine,
    )


def _objective(section: SelectionConfig) -> tuple[Objective, Section]:
    """The one that is given, and its settings."""
    given = ((name, getattr(section.objective, name)) for name in OBJECTIVES)
    return next((name, settings) for name, settings in given if settings is not None)


def _hinge(settings: Section) -> Hinge:
    if isinstance(settings, GraphCutHingeConfig):
        return Hinge(settings.threshold, settings.penalty)
    return DEFAULT_HINGE


def _index(settings: Section) -> IndexSettings:
    if not isinstance(settings, NeighboursConfig):
        return IndexSettings()
    return IndexSettings(
        settings.index,
        settings.neighbours,
        settings.block,
        settings.lists,
        settings.probes,
        settings.links,
        settings.width,
    )


@contextmanager
def named_as_in_config(config: RunConfig) -> Iterator[None]:
    """Give problems of a job their place in the config."""
    try:
        yield
    except UserError as error:
        raise error.renamed(
            lambda problem: replace(problem, where=place_of(problem.where, config))
        ) from error


def place_of(where: str, config: RunConfig) -> str:
    """The place in the config of what a job calls ``where``."""
    section = config.headrace.selection
    assert section is not None
    if where == section.embedding.model:
        where = "encoder"
    if where == "limits":
        return WHERE
    if where in _PLACES:
        return f"{WHERE}.{_PLACES[where]}"
    if where in _OF_OBJECTIVE:
        return f"{WHERE}.objective.{_objective(section)[0]}.{_OF_OBJECTIVE[where]}"
    return f"{WHERE}.{where}" if where.partition(".")[0] in _SAME else where
