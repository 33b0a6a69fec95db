"""Documents that are removed from the training data while a run goes on, or between its starts.

A run never serves them: a start reads the tombstones of its sources, and a run that is under way
looks for new ones between its steps.  It then saves a checkpoint and stops, as after a signal; the
same command goes on from there without them.  ``removed.jsonl`` of a branch says from which step
on which epoch of tombstones held: so it can be told later what the steps before had seen.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError, Problem, ShardError, UserError
from headrace.shards import storage
from headrace.shards.reader import ShardReader
from headrace.training.data import RunData
from headrace.training.distributed import World, failing_together, gather_json

FILE = "removed.jsonl"
_LOOK_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Takedowns:
    """What was removed from the training data of a branch."""

    def __init__(
        self,
        readers: Mapping[str, ShardReader] | None = None,
        path: Path | None = None,
        world: World | None = None,
    ) -> None:
        """Make one.

        Args:
            readers: the sources of the branch, by language.
            path: the branch's file; None: nothing is written.
            world: the ranks; the main one looks and writes.
        """
        self._readers = dict(readers or {})
        self._path = path
        self._world = world
        self.epochs = {
            language: reader.tombstones.epoch for language, reader in self._readers.items()
        }
        """By language, the tombstones that this start heeds."""
        self._looked = time.monotonic()
        self.asked = False
        """Whether something was removed since."""

    def look(self) -> bool:
        """Whether something was removed since this start; looks once a second."""
        is_main = self._world is not None and self._world.is_main
        if not self.asked and is_main and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            for language, reader in self._readers.items():
                try:
                    reader.refresh()
                except ShardError as error:
                    logger.warning("cannot look for removed documents: %s", error)
                self.asked |= reader.tombstones.epoch > self.epochs[language]
        return self.asked

    def check(self, before: Mapping[str, int], where: str) -> None:
        """Raise ``ConfigError`` if a checkpoint was made when more was removed than is now."""
        problems = [
            Problem(
                "documents that were removed are back: its tombstones are older than the "
                "checkpoint's",
                where,
                f"{language}: epoch {self.epochs[language]}, {epoch} then",
                "Bring back the manifest and the folder tombstones of the source",
            )
            for language, epoch in before.items()
            if self.epochs.get(language, epoch) < epoch
        ]
        if problems:
            raise ConfigError(problems)

    def start(self, step: int) -> None:
        """Write down that these tombstones hold for what comes behind ``step`` finished steps.

        Nothing is written for a branch from whose data nothing was ever removed.
        """
        if self._path is None or self._world is None:
            return
        with failing_together(self._world):
            if not self._world.is_main or not (any(self.epochs.values()) or self._path.exists()):
                return
            kept = [line for line in read_removed(self._path) if line["step"] < step]
            if kept and kept[-1]["epochs"] == self.epochs:
                lines = kept
            else:
                lines = [*kept, {"step": step, "epochs": self.epochs}]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            storage.write_atomically(str(self._path), text.encode())


def read_removed(path: Path) -> list[dict[str, Any]]:
    """The lines of the file of a branch: ``step`` and, by language, ``epochs``.

    Raises:
        ConfigError: if the file is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        return [
            {"step": int(line["step"]), "epochs": dict(line["epochs"])}
            for line in map(json.loads, text.splitlines())
        ]
    except (ValueError, TypeError, KeyError) as error:
        remedy = "Delete the file: what earlier steps had seen is then not known any more"
        raise ConfigError(Problem("the file is damaged", str(path), str(error), remedy)) from error


def agree_on_removed(data: RunData, world: World) -> None:
    """Raise ``UserError`` on every rank if some found more removed documents than others.

    Batches are planned with what each rank knows of its sources, so all must know the same.
    """
    own = {
        language: [reader.tombstones.epoch, data.train[language].fingerprint]
        for language, reader in data.opened.train.items()
        if language in data.train
    }
    found = gather_json(own, world)
    if any(other != found[0] for other in found):
        differing = sorted(
            language for language in own if any(o[language] != found[0][language] for o in found)
        )
        error = UserError(
            Problem(
                "ranks differ in what was removed from the training data, or in the lengths that "
                "it had",
                "headrace.data.train",
                ", ".join(differing),
                "Start again; if it stays so, let all nodes share headrace.data.cache_dir",
            )
        )
        error.joint = True
        raise error


def removed_facts(data: RunData, languages: tuple[str, ...]) -> dict[str, Any]:
    """What a start says of removed samples; nothing where there are none."""
    removed = sum(data.opened.train[language].tombstones.samples for language in languages)
    if not removed:
        return {}
    sources = [data.train[language] for language in languages]
    return {
        "removed_samples": removed,
        "substituted": sum(source.substituted for source in sources),
        "left_out_of_batches": sum(
            int(rows.sum()) for source in sources for rows in source.absent.values()
        ),
    }
