"""Checkpoints that count only when they are complete, and that are compared with their hashes.

The states that DeepSpeed gives are written by every rank into ``checkpoints/.partial-step-N``,
hashed on the way and forced to disk; then the main rank records every file with its size and hash
in ``COMPLETE`` and renames the folder.  A crash at any moment leaves either the folder under its
final name, whole, or a partial one that is removed at the next start.

A checkpoint that cannot be written, on whichever rank, is given up on all of them with a warning;
the one before stays.  When one is loaded, the ranks share out its files, compare them with the
hashes, and agree on the newest that is as it was written.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.config.checkpoint import CheckpointConfig
from headrace.errors import SaveError
from headrace.file_hash import hash_of
from headrace.shards import storage
from headrace.training.checkpoint_loading import STATE, layout_of, load_checkpoint
from headrace.training.checkpoint_marker import (
    FileFacts,
    Marker,
    damage_of,
    read_marker,
    share_of,
    step_of,
    steps_in,
)
from headrace.training.distributed import World, barrier, failing_together, gather_json
from headrace.training.retention import kept, kept_for_good

logger = logging.getLogger(__name__)

_PARTIAL = ".partial-"
_REMOVED = ".removed-"


@dataclass(frozen=True)
class _Writing:
    """A checkpoint whose files are being written."""

    step: int
    layout: Mapping[str, Any]
    validation_loss: float | None
    needed: int
    """Bytes of the tensors of all ranks."""
    written: Future[dict[Path, FileFacts]]


class Checkpoints:
    """The checkpoints of one branch of a stage."""

    def __init__(
        self, folder: Path, world: World, settings: CheckpointConfig | None = None
    ) -> None:
        """``settings`` say which are kept, and whether a thread writes them."""
        self.folder = folder
        self.world = world
        self.settings = settings or CheckpointConfig()
        self._writing: _Writing | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._last_time = time.monotonic()
        self._damaged: set[int] = set()

    def clean(self) -> None:
        """Remove what a killed run left half-written."""
        with failing_together(self.world):
            if self.world.is_main and self.folder.exists():
                for pattern in (_PARTIAL, _REMOVED):
                    for leftover in self.folder.glob(f"{pattern}*"):
                        shutil.rmtree(leftover)

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after ``step`` finished steps, whatever the time."""
        every = self.settings.keep_every
        return step % self.settings.every_steps == 0 or (every is not None and step % every == 0)

    def is_due_by_time(self) -> bool:
        """Whether it is time, by the clock of the main rank; false on the others."""
        seconds = self.settings.every_seconds
        due = seconds is not None and time.monotonic() - self._last_time >= seconds
        return self.world.is_main and due

    def save(
        self,
        engine: Any,
        step: int,
        state: Mapping[str, Any],
        *,
        validation_loss: float | None = None,
    ) -> bool:
        """Save the engine after ``step`` finished steps, and drop checkpoints that are not kept.

        A collective.  With ``asynchronous`` the state is copied and the call returns; the
        checkpoint counts when :meth:`finish` has been called.

        Args:
            engine: the DeepSpeed engine.
            step: steps finished in this branch.
            state: JSON-able state of the run, the same on every rank.
            validation_loss: that of the model as it is, if it has been measured.

        Returns:
            Whether it is saved, or begun; the same on every rank.  If not, a warning says why.
        """
        from headrace.training.checkpoint_states import (
            bytes_of,
            collecting,
            copied,
            write_states,
        )

        self.finish()
        self._last_time = time.monotonic()
        partial = self._partial(step)
        if not self._make(partial, step):
            return False
        with collecting(engine) as states:
            engine.save_checkpoint(
                str(partial),
                tag=STATE,
                client_state={"headrace": json.dumps(state)},
                save_latest=False,
            )
        sizes = gather_json(bytes_of(states), self.world)
        free = gather_json(self._free() if self.world.is_main else None, self.world)[0]
        if free is not None and free < sum(sizes):
            self._give_up(step, "the disk has not enough space", sum(sizes))
            return False
        if self.settings.asynchronous:
            states = copied(states)
            self._thread = self._thread or ThreadPoolExecutor(1, "headrace-checkpoint")
            written = self._thread.submit(write_states, states)
        else:
            written = _called(lambda: write_states(states))
        self._writing = _Writing(
            step, layout_of(engine, self.world), validation_loss, sum(sizes), written
        )
        return self.settings.asynchronous or self.finish()

    @property
    def is_written(self) -> bool:
        """Whether this rank has written its files of a checkpoint that counts with :meth:`finish`.

        All ranks begin a checkpoint together: where all of them say so, all can call it.
        """
        return self._writing is not None and self._writing.written.done()

    def finish(self) -> bool:
        """Wait for the checkpoint that is being written, and make it count; a collective.

        Returns:
            Whether it counts, or there was none; the same on every rank.

        Raises:
            SaveError: on every rank, if it could not be written for another reason than the
                disk.
        """
        if (writing := self._writing) is None:
            return True
        self._writing = None
        partial = self._partial(writing.step)
        mine: dict[str, tuple[int, str | None]] = {}
        failure, fault = None, None
        try:
            for path, facts in writing.written.result().items():
                mine[str(path.relative_to(partial))] = (facts.size, facts.digest)
        except OSError as error:
            failure = error.strerror or str(error)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        outcomes = gather_json([mine, failure, fault], self.world)
        for rank, (_, failure, fault) in enumerate(outcomes):
            if fault is not None:
                raise SaveError(
                    f"rank {rank} could not write the checkpoint of step {writing.step}: {fault}"
                )
            if failure is not None:
                self._give_up(writing.step, f"{failure} on rank {rank}", writing.needed)
                return False
        found = {
            name: FileFacts(*facts) for files, _, _ in outcomes for name, facts in files.items()
        }
        return self._commit(writing, found)

    def _commit(self, writing: _Writing, files: dict[str, FileFacts]) -> bool:
        """Write the marker and rename the folder."""
        partial = self._partial(writing.step)
        final = self.folder / partial.name.removeprefix(_PARTIAL)
        others, failure = self._others(partial, files)
        if self.world.is_main and failure is None:
            marker = Marker(
                writing.step, writing.layout, writing.validation_loss, {**files, **others}
            )
            try:
                marker.write(partial)
                for path in (*(path for path in partial.rglob("*") if path.is_dir()), partial):
                    storage.sync(path)
                if final.exists():  # a damaged one of this step, which the start left out
                    self._remove(final)
                partial.rename(final)
                storage.sync(self.folder)
            except OSError as error:
                failure = error.strerror or str(error)
        for rank, problem in enumerate(gather_json(failure, self.world)):
            if problem is not None:
                self._give_up(writing.step, f"{problem} on rank {rank}", writing.needed)
                return False
        self._damaged.discard(writing.step)
        if self.world.is_main:
            self._drop_old(writing.step)
        barrier(self.world)
        return True

    def _others(
        self, partial: Path, known: Mapping[str, FileFacts]
    ) -> tuple[dict[str, FileFacts], str | None]:
        """Hash files that DeepSpeed wrote itself: the states that it keeps on NVMe.

        Returns:
            Their facts, and what failed on any rank.
        """
        names, failure = [], None
        try:
            if self.world.is_main:
                inside = (path for path in partial.rglob("*") if path.is_file())
                names = sorted({str(path.relative_to(partial)) for path in inside} - known.keys())
        except OSError as error:
            failure = error.strerror or str(error)
        names, failure = gather_json([names, failure], self.world)[0]
        mine: dict[str, tuple[int, str]] = {}
        try:
            for name in names[self.world.rank :: self.world.size]:
                storage.sync(partial / name)
                mine[name] = ((partial / name).stat().st_size, hash_of(partial / name))
        except OSError as error:
            failure = error.strerror or str(error)
        if not names:
            return {}, failure
        outcomes = gather_json([mine, failure], self.world)
        failure = next((failure for _, failure in outcomes if failure is not None), None)
        return {
            name: FileFacts(*facts) for found, _ in outcomes for name, facts in found.items()
        }, failure

    def _make(self, partial: Path, step: int) -> bool:
        """Make the folder of a new checkpoint, empty."""
        failure = None
        if self.world.is_main:
            try:
                shutil.rmtree(partial, ignore_errors=True)
                (partial / STATE).mkdir(parents=True)
            except OSError as error:
                failure = error.strerror or str(error)
        failure = gather_json(failure, self.world)[0]
        if failure is not None:
            self._give_up(step, failure, None)
        return failure is None

    def _give_up(self, step: int, why: str, needed: int | None) -> None:
        """Warn that a checkpoint is not saved, and remove what there is of it."""
        if not self.world.is_main:
            return
        free = self._free()
        shutil.rmtree(self._partial(step), ignore_errors=True)
        complete = [path.name for path in steps_in(self.folder)]
        logger.warning(
            "the checkpoint of step %d is not saved: %s (%s bytes needed, %s free in %s); "
            "the newest one is %s, and the next is tried when it is due",
            step,
            why,
            "some" if needed is None else f"{needed:,}",
            "unknown" if free is None else f"{free:,}",
            self.folder,
            complete[-1] if complete else "none",
        )

    def _free(self) -> int | None:
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return None

    def _partial(self, step: int) -> Path:
        return self.folder / f"{_PARTIAL}step-{step:06d}"

    def _drop_old(self, saved: int) -> None:
        """Keep what is to be kept up to the step just saved; later ones are damaged leftovers."""
        losses = self._losses()
        stay = kept(
            {
                step: loss
                for step, loss in losses.items()
                if step <= saved and step not in self._damaged
            },
            self.settings,
        )
        for path in steps_in(self.folder):
            if step_of(path) not in stay:
                self._remove(path)

    def _losses(self) -> dict[int, float | None]:
        """Validation losses by step; also of checkpoints whose marker cannot be read."""
        losses: dict[int, float | None] = {}
        for path in steps_in(self.folder):
            try:
                losses[step_of(path)] = read_marker(path).validation_loss
            except ValueError:
                losses[step_of(path)] = None
        return losses

    def _remove(self, path: Path) -> None:
        removed = path.with_name(f"{_REMOVED}{path.name}")
        path.rename(removed)
        shutil.rmtree(removed)

    def agree_on_newest(self) -> Path | None:
        """Return the newest checkpoint that is as it was written, the same on every rank.

        A collective: the ranks share out the files of each that they look at.  Those that are
        damaged are named in a warning.
        """
        own = [path.name for path in steps_in(self.folder)] if self.world.is_main else None
        names: list[str] = gather_json(own, self.world)[0]
        for name in reversed(names):
            path = self.folder / name
            problem = self._damage(path)
            if problem is None:
                return path
            self._damaged.add(step_of(path))
            if self.world.is_main:
                earlier = names[: names.index(name)]
                logger.warning(
                    "checkpoint %s is damaged and is left out: %s; %s",
                    path,
                    problem,
                    f"{earlier[-1]} is looked at instead" if earlier else "there is no other",
                )
        return None

    def _damage(self, path: Path) -> str | None:
        """Say what is wrong with a checkpoint, the same on every rank."""
        content: Any = None
        if self.world.is_main:
            try:
                marker = read_marker(path)
                content = {name: asdict(facts) for name, facts in marker.files.items()}
            except ValueError as error:
                content = str(error)
        content = gather_json(content, self.world)[0]
        if isinstance(content, str):
            return content
        files = {name: FileFacts(**facts) for name, facts in content.items()}
        mine = damage_of(path, share_of(files, self.world.rank, self.world.size))
        return next(
            (found for found in gather_json(mine, self.world) if found is not None),
            None,
        )

    def load(self, engine: Any, path: Path) -> dict[str, Any]:
        """Load a checkpoint into the engine and return the state that was saved with it.

        Raises:
            UserError: as :func:`headrace.training.checkpoint_loading.load_checkpoint` does.
        """
        return load_checkpoint(engine, path, self.world)

    def end(self) -> None:
        """Remove what is not kept for good; for a branch that is complete."""
        barrier(self.world)
        if self.world.is_main and self.folder.exists():
            stay = kept_for_good(self._losses(), self.settings)
            for path in [*self.folder.iterdir()]:
                if not path.name.startswith("step-") or step_of(path) not in stay:
                    shutil.rmtree(path, ignore_errors=True)
            if not stay:
                shutil.rmtree(self.folder, ignore_errors=True)
        barrier(self.world)


def _called(work: Callable[[], dict[Path, FileFacts]]) -> Future[dict[Path, FileFacts]]:
    """Do work now, and give its outcome as a thread would."""
    future: Future[dict[Path, FileFacts]] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future
