"""Choosing rows to train on: graph cut on cosine similarity, with a certified bound."""

from headrace.selection.limits import Limits
from headrace.selection.selection import Selection, select

__all__ = ["Limits", "Selection", "select"]
