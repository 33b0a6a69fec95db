"""Checks of the section that chooses samples; they need neither the samples nor their vectors."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.config.messages import did_you_mean
from headrace.config.schema import (
    EmbeddingConfig,
    HeadraceConfig,
    ObjectiveConfig,
    SelectionConfig,
)
from headrace.errors import Problem

WHERE = "headrace.selection"


def check_selection(config: HeadraceConfig) -> list[Problem]:
    """Check how much is chosen, by what, and that the quotas name languages of the run."""
    selection = config.selection
    if selection is None:
        return []
    problems: list[Problem] = []
    if config.data.selection is not None:
        problems.append(
            Problem(
                "the samples are chosen already",
                "headrace.data.selection",
                config.data.selection,
                f"Remove it, or {WHERE}",
            )
        )
    sizes = [name for name in ("rows", "fraction", "budget") if getattr(selection, name)]
    if len(sizes) != 1:
        problems.append(
            Problem(
                "one of rows, fraction and budget says how much to choose",
                WHERE,
                ", ".join(sizes) or "none of them",
                "Give exactly one of them",
            )
        )
    problems += _check_quotas(config, selection)
    problems += _check_embedding(selection.embedding)
    problems += _check_method(selection)
    objectives = [
        name
        for name in ObjectiveConfig.model_fields
        if getattr(selection.objective, name) is not None
    ]
    if len(objectives) != 1:
        problems.append(_one_of(list(ObjectiveConfig.model_fields), objectives, "objective"))
    return problems


def _check_quotas(config: HeadraceConfig, selection: SelectionConfig) -> list[Problem]:
    if selection.group_by is not None:
        return []
    return [
        Problem(
            "no training data for this language",
            f"{WHERE}.{quota}.{language}",
            language,
            did_you_mean(language, config.data.train),
        )
        for quota in ("minimum", "maximum")
        for language in getattr(selection, quota)
        if language not in config.data.train
    ]


def _check_embedding(embedding: EmbeddingConfig) -> list[Problem]:
    kinds = ("model", "doc2vec", "vectors")
    given = [name for name in kinds if getattr(embedding, name) is not None]
    if len(given) != 1:
        return [_one_of(kinds, given, "embedding")]
    defaults = EmbeddingConfig.model_fields
    return [
        Problem(
            f"this has a meaning only with {kind}",
            f"{WHERE}.embedding.{key}",
            str(getattr(embedding, key)),
            "Remove it",
        )
        for kind, key in (
            ("model", "pooling"), ("model", "max_length"), ("vectors", "ids"), ("vectors", "costs"),
        )
        if kind not in given and getattr(embedding, key) != defaults[key].default
    ]  # fmt: skip


def _check_method(selection: SelectionConfig) -> list[Problem]:
    drawn = selection.method in ("random", "one_pass") or selection.embedding.doc2vec is not None
    return [
        Problem(
            f"this has a meaning only with {partner}",
            f"{WHERE}.{key}",
            str(getattr(selection, key)),
            "Remove it",
        )
        for key, partner, effective in (
            ("parts", "greedi", selection.method == "greedi"),
            ("sample_rows", "one_pass", selection.method == "one_pass"),
            ("warm_passes", "one_pass", selection.method == "one_pass"),
            ("seed", "random, one_pass or doc2vec", drawn),
        )
        if not effective and getattr(selection, key) != SelectionConfig.model_fields[key].default
    ]


def _one_of(names: Sequence[str], given: Sequence[str], key: str) -> Problem:
    return Problem(
        f"one of {', '.join(names)} is needed",
        f"{WHERE}.{key}",
        ", ".join(given) or "none of them",
        "Give exactly one of them",
    )
