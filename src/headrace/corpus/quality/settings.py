"""What a recipe says about quality: which documents are left out, by limits of measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from headrace.config.section import Section
from headrace.corpus.languages.tags import canonical
from headrace.corpus.quality.measures import Measure


class Limit(Section):
    """The values of a measure with which a document stays."""

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _useful(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs min or max; to lift a limit, give null in its place")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max: no document could stay")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value is within it."""
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        return low <= value <= high

    def __str__(self) -> str:
        bounds = (("at least", self.min), ("at most", self.max))
        return ", ".join(f"{word} {value:g}" for word, value in bounds if value is not None)


Limits = Mapping[Measure, Limit | None]


def _limits(**bounds: tuple[float | None, float | None]) -> dict[str, Limit]:
    return {name: Limit(min=low, max=high) for name, (low, high) in bounds.items()}


PRESETS: Mapping[str, Mapping[str, Limit]] = {
    "none": {},
    "gopher": _limits(
        words=(50, 100_000),
        mean_word_length=(3, 10),
        hashes_per_word=(None, 0.1),
        ellipses_per_word=(None, 0.1),
        bullet_lines=(None, 0.9),
        ellipsis_lines=(None, 0.3),
        alphabetic_words=(0.8, None),
        stop_words=(2, None),
        repeated_lines=(None, 0.3),
        repeated_paragraphs=(None, 0.3),
        repeated_line_characters=(None, 0.2),
        repeated_paragraph_characters=(None, 0.2),
        commonest_2_words=(None, 0.2),
        commonest_3_words=(None, 0.18),
        commonest_4_words=(None, 0.16),
        repeated_5_words=(None, 0.15),
        repeated_10_words=(None, 0.1),
    ),
    "c4": _limits(sentences=(3, None), curly_brackets=(None, 0), lorem_ipsum=(None, 0)),
}
"""Gopher: Rae et al. 2021, appendix A1.1 and table A1.  C4: Raffel et al. 2020, section 2.2."""


class QualitySettings(Section):
    """Which documents are left out for their quality; measures are taken in any case."""

    preset: Literal["none", "gopher", "c4"] = "none"
    """Limits to begin with: none, those of Gopher for whole documents, or those of C4."""
    limits: Limits = Field(default_factory=dict)
    """Limits by measure, in place of those of the preset; `null` lifts one."""
    by_language: Mapping[str, Limits] = Field(default_factory=dict)
    """Limits for documents in a language, by BCP-47 tag, in place of all others."""

    @field_validator("by_language")
    @classmethod
    def _tags(cls, value: Mapping[str, Limits]) -> Mapping[str, Limits]:
        wrong = [tag for tag in value if canonical(tag) is None]
        if wrong:
            raise ValueError(f"no language tags (BCP-47), such as en, hi or pt-BR: {wrong}")
        return value
