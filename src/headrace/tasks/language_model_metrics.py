"""Scores of language models: perplexity, the share of tokens that are right, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

COUNTS_VERSION = 1
"""Version of the form that :meth:`LanguageModelScores.counts` gives."""

_WHOLE = ""
"""The name of all samples together."""
_PARTS_OF_A_NAT = 1 << 30
"""Losses are added up as whole numbers of these: sums do not depend on the order."""


class LanguageModelScores:
    """Losses of predicted tokens, by subset."""

    def __init__(self) -> None:
        self._groups = {_WHOLE: _Group()}

    def update(
        self, loss: float, tokens: int, right: int, *, size: int = 0, subset: str | None = None
    ) -> None:
        """Count a sequence.

        Args:
            loss: the summed loss of its labels, in nats.
            tokens: its labels.
            right: labels whose token is the likeliest one.
            size: bytes of the text that it stands for.
            subset: the part of the data that it is of.
        """
        for name in [_WHOLE] if subset is None else [_WHOLE, subset]:
            self._groups.setdefault(name, _Group()).add(loss, tokens, right, size)

    def counts(self) -> dict[str, Any]:
        """All counts as a JSON-able object, for :meth:`merge` in another process."""
        groups = {name: vars(group).copy() for name, group in self._groups.items()}
        return {"version": COUNTS_VERSION, "groups": groups}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another object; ``ValueError`` if it is of another version."""
        if counts["version"] != COUNTS_VERSION:
            raise ValueError("the counts belong to another version")
        for name, group in counts["groups"].items():
            self._groups.setdefault(name, _Group()).merge(group)

    def result(self) -> dict[str, Any]:
        """All scores as a JSON-able object: one entry of ``metrics`` in ``results.json``.

        ``perplexity`` is the exponential of the mean loss of a token, ``token_accuracy`` the share
        of tokens that are the likeliest ones; ``bits_per_byte``, of sequences that stand for bytes,
        is the summed loss in bits by these.  Without a token they are infinite, 0 and missing, and
        infinite where a loss is no number.
        """
        result = self._groups[_WHOLE].result()
        result["subsets"] = {
            name: self._groups[name].result() for name in sorted(self._groups) if name != _WHOLE
        }
        return result


class _Group:
    """Sums over some sequences."""

    def __init__(self) -> None:
        self.samples = 0
        self.tokens = 0
        self.right = 0
        self.bytes = 0
        self.loss = 0
        self.without_loss = 0
        """Sequences whose loss is no number, or infinite."""

    def add(self, loss: float, tokens: int, right: int, size: int) -> None:
        self.samples += 1
        self.tokens += tokens
        self.right += right
        self.bytes += size
        if math.isfinite(loss):
            self.loss += round(loss * _PARTS_OF_A_NAT)
        else:
            self.without_loss += 1

    def merge(self, counts: Mapping[str, int]) -> None:
        for name, value in counts.items():
            setattr(self, name, getattr(self, name) + value)

    def result(self) -> dict[str, Any]:
        nats = math.inf if self.without_loss else self.loss / _PARTS_OF_A_NAT
        mean = nats / self.tokens if self.tokens else math.inf
        found: dict[str, Any] = {
            "perplexity": math.exp(mean) if mean < 700 else math.inf,
            "token_accuracy": self.right / self.tokens if self.tokens else 0.0,
            "samples": self.samples,
            "tokens": self.tokens,
        }
        if self.bytes:
            found["bits_per_byte"] = nats / math.log(2) / self.bytes
            found["bytes"] = self.bytes
        return found
