"""The numbers of a record under the names that dashboards show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NO_MEASURE = frozenset(["kind", "stage", "branch", "step", "time", "best"])


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record of kind ``train`` or ``validation``.

    A number is named ``KIND/key``, one of the rates of groups ``learning_rate/GROUP``, one of a
    language ``validation_SCORE/LANGUAGE``.  What is null or no number is left out.
    """
    kind = record["kind"]
    found: dict[str, Any] = {
        f"{kind}/{key}": value for key, value in record.items() if key not in _NO_MEASURE
    }
    for group, rate in record.get("learning_rates", {}).items():
        found[f"learning_rate/{group}"] = rate
    for language, loss in record.get("loss_by_language", {}).items():
        found[f"{kind}_loss/{language}"] = loss
    for language, scores in record.get("metrics", {}).items():
        for name, value in scores.items():
            found[f"{kind}_{name}/{language}"] = value
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
