"""Stages that several runs have in common are trained once.

Most methods train the first task alike: the same data, weights, settings and seed.  A stage is the
same if all that decides it is: the stages up to it, and everything else in the run config.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from headrace.config import RunConfig
from headrace.training.stages import expand_stages

_NOT_LEARNED = ("checkpoint", "logging", "name", "output")
"""Sections and keys that do not touch what is learned."""
_EXPORT, _RESULT = "export", "result.json"
"""In the folder of a stage."""


def what_decides(config: RunConfig) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All of a run config that has a part in what is learned: without the stages, and the stages.

    Learning rates that a file has are in it, not its name.
    """
    document = config.resolved()
    section = document["headrace"]
    stages: list[dict[str, Any]] = section.pop("stages")
    for key in _NOT_LEARNED:
        section.pop(key, None)
    section["data"].pop("cache_dir", None)
    for holder in (section, *stages):
        groups = holder.get("param_groups") or {}
        if isinstance(name := groups.get("distribution"), str):
            with suppress(OSError):  # a file that is missing is refused before training
                groups["distribution"] = Path(name).read_text(encoding="utf-8", errors="replace")
    return document, stages


def stage_digests(config: RunConfig) -> dict[str, str]:
    """What decides each stage of a sequence, in short: stage name -> 32 hexadecimal digits."""
    document, stages = what_decides(config)
    digests = {}
    for count, stage in enumerate(stages, start=1):
        text = json.dumps([document, stages[:count]], sort_keys=True)
        digests[stage["name"]] = xxhash.xxh3_128_hexdigest(text.encode())
    return digests


class SharedStages:
    """A folder with the stages that runs to come will need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._uses: Counter[str] = Counter()

    def expect(self, configs: Iterable[RunConfig]) -> None:
        """Take note of the runs to come, each once, this one included."""
        for config in configs:
            self._uses.update(stage_digests(config).values())

    def take(self, config: RunConfig) -> None:
        """Put what is there of a run's stages into its run folder."""
        digests = stage_digests(config)
        for branch in expand_stages(config):
            stored = self.folder / digests[branch.stage.name]
            if stored.is_dir() and not branch.result_file.exists():
                _link(stored, branch.folder)

    def give(self, config: RunConfig) -> None:
        """Keep the stages of a finished run that others need, and drop those that none does."""
        digests = stage_digests(config)
        self._uses.subtract(digests.values())
        for branch in expand_stages(config):
            digest = digests[branch.stage.name]
            stored = self.folder / digest
            if self._uses[digest] <= 0:
                shutil.rmtree(stored, ignore_errors=True)
            elif not stored.is_dir():
                _link(branch.folder, stored)
            else:
                _link_measured(branch.folder, stored)

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """The export, the result and what was measured of a stage in another place, or nothing of it.

    Files are linked, not copied: they are replaced as a whole, never written to.
    """
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copytree(source / _EXPORT, partial / _EXPORT, copy_function=os.link)
    os.link(source / _RESULT, partial / _RESULT)
    _link_measured(source, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _link_measured(source: Path, target: Path) -> None:
    """Fisher information, which a later stage has measured and put beside the export."""
    for path in source.glob("fisher-*.safetensors"):
        with suppress(FileExistsError):
            os.link(path, target / path.name)
