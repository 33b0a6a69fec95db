"""What the quality filters of one corpus would leave out of another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.corpus.quality.measures import MEASURES
from headrace.corpus.quality.settings import Limit, QualitySettings
from headrace.corpus.quality.step import MeasureQuality
from headrace.errors import CorpusError, Problem


def what_filters_leave_out(
    catalogue: Catalogue, other: Mapping[str, Any], name: str
) -> list[dict[str, Any]]:
    """Documents of a corpus that break each quality limit of another, by language.

    A document that breaks several counts for each of them, and once for the rule ``any``.

    Args:
        catalogue: of the corpus.
        other: ``corpus.json`` of the one whose recipe has the limits.
        name: of the other, for errors.
    """
    data = (other.get("recipe") or {}).get("quality")
    if data is None:
        return []
    try:
        step = MeasureQuality(QualitySettings.model_validate_json(json.dumps(data)))
    except ValidationError as error:
        remedy = "Compare with a corpus that this version of Headrace has built"
        problem = Problem("its quality limits are not known here", name, str(error)[:200], remedy)
        raise CorpusError(problem) from error
    found = []
    tags: dict[str, list[str]] = {}
    pairs = "SELECT DISTINCT language, variety FROM documents ORDER BY ALL"
    for language, variety in catalogue.rows(pairs):
        tags.setdefault(language, []).append(variety)
    for language, own in tags.items():
        broken = _broken_by(step, own)
        if not broken:
            continue
        broken["any"] = " OR ".join(broken.values())
        counts = ", ".join(f"count(*) FILTER ({condition})" for condition in broken.values())
        sql = f"SELECT count(*), {counts} FROM documents WHERE language = ?"
        total, *numbers = catalogue.rows(sql, [language])[0]
        found += [
            {"language": language, "measure": measure, "documents": number, "of": total}
            for measure, number in zip(broken, numbers, strict=True)
            if number
        ]
    return found


def _broken_by(step: MeasureQuality, varieties: Sequence[str]) -> dict[str, str]:
    """A condition in SQL for each measure: limits of a language may differ by variety."""
    found: dict[str, list[str]] = {}
    for variety in varieties:
        for measure, limit in step.limits(variety):
            text = variety.replace("'", "''")
            found.setdefault(measure, []).append(
                f"(variety = '{text}' AND {_broken(measure, limit)})"
            )
    return {measure: f"({' OR '.join(found[measure])})" for measure in MEASURES if measure in found}


def _broken(measure: str, limit: Limit) -> str:
    """A condition in SQL; a document without the measure does not break it."""
    value = f"quality['{measure}']"
    parts = []
    if limit.min is not None:
        parts.append(f"{value} < {limit.min!r}")
    if limit.max is not None:
        parts.append(f"{value} > {limit.max!r}")
    return f"coalesce({' OR '.join(parts)}, false)"
