"""The F1 of every entity type in every language, as rows of coloured cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, floor

from headrace.report import numbers
from headrace.report.palette import scale_step
from headrace.report.records import TypeScore
from headrace.report.run_folder import RunFolder
from headrace.report.summary import LanguageResult, coarse_families, language_results, mean

FAMILY_TITLES: Mapping[str, str] = {
    "LOC": "Location",
    "CW": "Creative work",
    "GRP": "Group",
    "PER": "Person",
    "PROD": "Product",
    "MED": "Medical",
    "CORP": "Corporation",
    "ORG": "Organisation",
    "MISC": "Miscellaneous",
}
"""Titles of the coarse families of the built-in label sets."""


@dataclass(frozen=True)
class Cell:
    """One coloured cell: the F1 in whole percent, its colour step, and the text on hover."""

    text: str
    step: int | None
    """Step of the colour scale; None where there is nothing to score."""
    hover: str


@dataclass(frozen=True)
class Row:
    """One entity type, or one coarse family, over the languages and their mean."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Family:
    """A coarse family with its own row and those of its types."""

    heading: Row
    types: tuple[Row, ...]


@dataclass(frozen=True)
class HeatMap:
    """The heat map of a run; the last cell of each row is the mean over languages."""

    languages: tuple[str, ...]
    families: tuple[Family, ...]
    low: float
    """The score (a fraction) at the low end of the colour scale."""
    high: float


def readable_type(name: str) -> str:
    """``HumanSettlement`` -> ``Human settlement``; capitals in a row stay: ``Musical GRP``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ")).split(" ")
    return " ".join([*words[:1], *(word if word.isupper() else word.lower() for word in words[1:])])


def heat_map(run: RunFolder) -> HeatMap | None:
    """The heat map of the final scores; None where no language has scores by type."""
    results = [result for result in language_results(run) if result.scores.by_type]
    if not results:
        return None
    scale = _Scale.over(results)
    types = {type_ for result in results for type_ in result.scores.by_type}
    families = []
    for family, members in coarse_families(run.label_set, types):
        title = FAMILY_TITLES.get(family, family) if family else "Types"
        coarse = [result.scores.by_coarse_type.get(family or "") for result in results]
        rows = tuple(
            scale.row(
                readable_type(type_),
                results,
                [result.scores.by_type.get(type_) for result in results],
            )
            for type_ in members
        )
        families.append(Family(scale.row(title, results, coarse), rows))
    languages = tuple(result.language for result in results)
    return HeatMap(languages, tuple(families), scale.low, scale.high)


@dataclass(frozen=True)
class _Scale:
    """The range of the colours: that of the scores, widened to full tens of percent."""

    low: float
    high: float

    @classmethod
    def over(cls, results: Sequence[LanguageResult]) -> _Scale:
        found = [
            score.f1
            for result in results
            for score in chain(
                result.scores.by_type.values(), result.scores.by_coarse_type.values()
            )
            if score.f1 is not None and _counts(score)
        ]
        low = floor(10 * min(found, default=0.0)) / 10
        return cls(low, max(ceil(10 * max(found, default=1.0)) / 10, low + 0.1))

    def row(
        self, label: str, results: Sequence[LanguageResult], scores: Sequence[TypeScore | None]
    ) -> Row:
        cells = [
            self._cell(f"{label}, {result.language}", score)
            for result, score in zip(results, scores, strict=True)
        ]
        average = mean(score.f1 for score in scores if score is not None and _counts(score))
        hover = f"{label}, mean over languages: F1 {numbers.percent(average)}"
        return Row(label, (*cells, self._coloured(average, hover)))

    def _cell(self, place: str, score: TypeScore | None) -> Cell:
        if score is None or score.f1 is None:
            return Cell(numbers.MISSING, None, f"{place}: no score")
        if not _counts(score):
            return Cell(numbers.MISSING, None, f"{place}: no entity in the data, none predicted")
        hover = (
            f"{place}: F1 {numbers.percent(score.f1)}, "
            f"precision {numbers.percent(score.precision)}, "
            f"recall {numbers.percent(score.recall)}; {numbers.count(score.gold)} in the data, "
            f"{numbers.count(score.predicted)} predicted, {numbers.count(score.correct)} correct"
        )
        return self._coloured(score.f1, hover)

    def _coloured(self, value: float | None, hover: str) -> Cell:
        if value is None:
            return Cell(numbers.MISSING, None, hover)
        return Cell(numbers.percent(value, 0), scale_step(value, self.low, self.high), hover)


def _counts(score: TypeScore) -> bool:
    """Whether there was anything to find or anything found: else its F1 means nothing."""
    return bool(score.gold or score.predicted or (score.gold is None and score.predicted is None))
