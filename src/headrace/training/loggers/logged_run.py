"""What a logger has to know of the branch whose records it gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.training.callbacks import Record


@dataclass(frozen=True)
class LoggedRun:
    """A branch of a run, as loggers see it."""

    name: str
    """Of the whole run."""
    title: str
    """Of the branch: ``stage/branch``."""
    output: Path
    """The run folder."""
    folder: Path
    """That of the branch."""
    scores: Mapping[str, str]
    """The scores of a validation that people look at, with titles, the main one first."""
    facts: Mapping[str, Any]
    """The resolved config and the environment, without secrets."""

    def parameters(self, record: Record) -> dict[str, Any]:
        """Return all that is known at the start of a branch: the facts, and the start record."""
        return {**self.facts, "branch": dict(record)}


def keep_json(path: Path, value: Any) -> None:
    """Write a small file of a logger, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)
