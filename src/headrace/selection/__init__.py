"""Choosing rows to train on, with a certified bound."""

from headrace.selection.chosen import Selection
from headrace.selection.indexes import IndexSettings
from headrace.selection.limits import Limits
from headrace.selection.neighbours import NeighbourGraph, neighbour_graph
from headrace.selection.selection import select

__all__ = [
    "IndexSettings",
    "Limits",
    "NeighbourGraph",
    "Selection",
    "neighbour_graph",
    "select",
]
