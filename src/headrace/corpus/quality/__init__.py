"""Measures of quality and style of documents, and limits that leave documents out.

Needs the extra ``corpus``.  docs/quality.md has the measures and their sources.
"""

from headrace.corpus.quality.measures import MEASURES, Measure, measure
from headrace.corpus.quality.register import register
from headrace.corpus.quality.settings import PRESETS, Limit, QualitySettings
from headrace.corpus.quality.step import MeasureQuality

__all__ = [
    "MEASURES",
    "PRESETS",
    "Limit",
    "Measure",
    "MeasureQuality",
    "QualitySettings",
    "measure",
    "register",
]
