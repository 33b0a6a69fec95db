"""Sizes as people write them: ``50 GB``, ``1.5 TiB``, or a number of bytes."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", 1):
    _UNITS |= {f"{_letter}B": 1000**_power, f"{_letter}IB": 1024**_power}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)")


def bytes_of(text: str) -> int:
    """The bytes of a size; ``ValueError`` that says what is wrong. GB is 10^9, GiB is 2^30."""
    match = _SIZE.fullmatch(text.strip())
    unit = match[2].upper() if match else ""
    if match is None or unit not in _UNITS:
        raise ValueError("not a size: write it as 50 GB, 1.5 TiB or a number of bytes")
    size = int(float(match[1]) * _UNITS[unit]) if "." in match[1] else int(match[1]) * _UNITS[unit]
    if size < 1:
        raise ValueError("a size must be at least 1 byte")
    return size
