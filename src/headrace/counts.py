"""Counts in words."""

from __future__ import annotations


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """``1 shard``, ``2 shards``, ``10,000 sentences``, ``1.5 epochs``, ``2 branches``.

    Args:
        number: a fraction is written with four digits.
        noun: of one.
        plural: of several; default: ``noun`` with an s.
    """
    words = f"{int(number):,}" if number == int(number) else f"{number:.4g}"
    return f"{words} {noun if words == '1' else plural or noun + 's'}"
