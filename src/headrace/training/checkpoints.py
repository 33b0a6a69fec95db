"""Checkpoints that count only when they are complete.

DeepSpeed writes into ``checkpoints/.partial-step-N``; then the main rank records every file with
its size in ``COMPLETE``, flushes all of it to disk and renames the folder.  A crash at any moment
leaves either the folder under its final name, whole, or a partial one that is removed at the next
start.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError, Problem, UserError
from headrace.shards import storage
from headrace.training.distributed import World, barrier, failing_together, gather_json

logger = logging.getLogger(__name__)

MARKER = "COMPLETE"
_PARTIAL = ".partial-"
_REMOVED = ".removed-"


class Checkpoints:
    """The checkpoints of one branch of a stage."""

    def __init__(self, folder: Path, world: World, *, keep_last: int) -> None:
        self.folder = folder
        self.world = world
        self.keep_last = keep_last

    def clean(self) -> None:
        """Remove what a killed run left half-written."""
        if self.world.is_main and self.folder.exists():
            for leftover in [*self.folder.glob(f"{_PARTIAL}*"), *self.folder.glob(f"{_REMOVED}*")]:
                shutil.rmtree(leftover)
        barrier(self.world)

    def save(self, engine: Any, step: int, state: dict[str, Any]) -> Path:
        """Save the engine after ``step`` finished steps, and drop the oldest checkpoints.

        Args:
            engine: the DeepSpeed engine.
            step: steps finished in this branch.
            state: JSON-able state of the run, the same on every rank.
        """
        name = f"step-{step:06d}"
        partial = self.folder / f"{_PARTIAL}{name}"
        final = self.folder / name
        if self.world.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
        barrier(self.world)
        engine.save_checkpoint(
            str(partial),
            tag="state",
            client_state={"headrace": json.dumps(state)},
            save_latest=False,
        )
        barrier(self.world)
        if self.world.is_main:
            self._commit(partial, final, step, engine)
            self._drop_old(final)
        barrier(self.world)
        return final

    def _commit(self, partial: Path, final: Path, step: int, engine: Any) -> None:
        files = {}
        for path in sorted(partial.rglob("*")):
            if path.is_file():
                storage.sync(path)
                files[str(path.relative_to(partial))] = path.stat().st_size
        marker = {
            "step": step,
            **self._layout(engine),
            "files": files,
        }
        (partial / MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")
        for path in (partial / MARKER, *(path for path in partial.rglob("*") if path.is_dir())):
            storage.sync(path)
        storage.sync(partial)
        if final.exists():  # a damaged checkpoint of this step, which the start left out
            self._remove(final)
        partial.rename(final)
        storage.sync(self.folder)

    def _layout(self, engine: Any) -> dict[str, Any]:
        """What a checkpoint can be loaded into: it is cut up by ranks, ZeRO stage and precision."""
        precision = "fp32"
        if engine.fp16_enabled():
            precision = "fp16"
        elif engine.bfloat16_enabled():
            precision = "bf16"
        return {
            "world_size": self.world.size,
            "zero_stage": engine.zero_optimization_stage(),
            "precision": precision,
        }

    def _drop_old(self, saved: Path) -> None:
        """Keep the last ones up to the one just saved; later ones are damaged leftovers."""
        steps = self._steps()
        end = steps.index(saved) + 1
        for path in [*steps[end:], *steps[:end][: -self.keep_last]]:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        removed = path.with_name(f"{_REMOVED}{path.name}")
        path.rename(removed)
        shutil.rmtree(removed)

    def _steps(self) -> list[Path]:
        return sorted(
            self.folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-"))
        )

    def newest(self) -> Path | None:
        """Return the newest complete checkpoint; incomplete ones are named in a warning."""
        for path in reversed(self._steps()):
            problem = _incomplete(path)
            if problem is None:
                return path
            logger.warning("checkpoint %s is not complete (%s) and is left out", path, problem)
        return None

    def load(self, engine: Any, path: Path) -> dict[str, Any]:
        """Load a checkpoint into the engine and return the state that was saved with it.

        The number of ranks may be another one than that of the checkpoint, and so may the ZeRO
        stage if both are 1, 2 or 3.

        Raises:
            UserError: if it was written in another precision, or if only one of the checkpoint and
                this run is without ZeRO.
        """
        marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
        here = self._layout(engine)
        different = [key for key, value in here.items() if marker.get(key) != value]
        divided = marker.get("zero_stage", 0) > 0 and here["zero_stage"] > 0
        may_differ = ("world_size", "zero_stage") if divided else ("world_size",)
        with failing_together(self.world):
            problems = [
                Problem(
                    f"the checkpoint was written with {key} {marker.get(key)}, "
                    f"this run has {here[key]}",
                    str(path),
                    remedy=f"Start with {key} {marker.get(key)}, or use another headrace.output",
                )
                for key in different
                if key not in may_differ
            ]
            if problems:
                raise UserError(problems)
        if different and divided:
            client_state = self._load_resharded(engine, path, marker)
        else:  # without ZeRO the checkpoint holds all there is, for any number of ranks
            loaded, client_state = engine.load_checkpoint(str(path), tag="state")
            if loaded is None:
                raise HeadraceError(f"DeepSpeed could not load the checkpoint {path}")
        if different and self.world.is_main:
            was, now = (
                ", ".join(f"{key} {layout[key]}" for key in different) for layout in (marker, here)
            )
            logger.info(
                "checkpoint %s was written with %s and goes on with %s: samples and their order "
                "stay the same, dropout is drawn by rank",
                path,
                was,
                now,
            )
        state: dict[str, Any] = json.loads(client_state["headrace"])
        return state

    def _load_resharded(
        self, engine: Any, path: Path, marker: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Load what was divided over other ranks, or in another way."""
        from headrace.training.resharding import load_resharded

        return load_resharded(
            engine,
            path / "state",
            self.world,
            ranks=marker["world_size"],
            stage=marker["zero_stage"],
        )

    def agree_on_newest(self) -> Path | None:
        """Return the newest complete checkpoint, the same on every rank."""
        found = self.newest() if self.world.is_main else None
        name = gather_json(found.name if found else None, self.world)[0]
        return self.folder / name if name else None

    def remove_all(self) -> None:
        """Remove every checkpoint; for a branch that is finished."""
        barrier(self.world)
        if self.world.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)
        barrier(self.world)


def _incomplete(path: Path) -> str | None:
    """Say why a checkpoint is not complete; None if it is."""
    try:
        marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
        files = marker["files"]
    except (OSError, ValueError, KeyError):
        return f"no {MARKER} marker"
    for name, size in files.items():
        file = path / name
        if not file.exists():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
    return None
