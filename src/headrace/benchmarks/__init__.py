"""Measurements of Headrace side by side with what it stands beside, one module a benchmark.

A module has ``settings(quick, ...) -> object`` and ``measure(settings, rounds) -> Measured``.
"""

BENCHMARKS = ("training", "stream", "selection", "build")
"""Every benchmark; the name is that of its module."""
