"""The thread of each rank that keeps its heartbeat, and ends a run that could not end itself."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import IO

import psutil

from headrace.config.watch import WatchConfig
from headrace.errors import (
    EXIT_FAULT,
    DivergedError,
    RankLostError,
    SaveError,
    StopRequested,
    UserError,
)
from headrace.training.watch.activity import Activity
from headrace.training.watch.awake import AwakeClock
from headrace.training.watch.files import End, Heartbeat, Leftovers, Place, WatchFolder
from headrace.training.watch.stacks import position_of_main_thread, write_stacks
from headrace.training.watch.verdict import GONE, Sighting, describe, judge

_MISSED = 4
"""Heartbeats that may be late before a rank counts as quiet."""
_GRACE_SECONDS = 10.0
"""For the main thread to end this process itself, once another rank is known to be gone."""
_SETTLED = 20
"""Heartbeats after which folders of other jobs, in which none beats, are removed."""
_OF_COLLECTIVES = (
    "gloo",
    "nccl",
    "connection closed",
    "connection reset",
    "broken pipe",
    "timed out",
)
"""What errors of collectives speak of."""
GO_ON = "Start the same command again to go on from the newest checkpoint"


Seen = dict[int, tuple[int, float]]
"""By rank: the number of the last heartbeat, and when it was first seen."""


class Watch:
    """Watches this rank, and the others through their files; a context manager.

    It is put around the work of all ranks of a job.  When an error leaves the block:

    - :class:`StopRequested`, :class:`DivergedError`, :class:`SaveError` and a joint
      :class:`UserError` are raised by all ranks alike.
    - An error of a collective, when another rank is gone or has failed, becomes a
      :class:`RankLostError`.
    - Any other error is this rank's own: the other ranks are told, and end within seconds.
    """

    def __init__(
        self,
        folder: WatchFolder,
        places: Sequence[Place],
        rank: int,
        activity: Activity,
        settings: WatchConfig,
        leftovers: Leftovers | None = None,
    ) -> None:
        """``places`` are those of all ranks; ``leftovers`` are removed, by one rank."""
        self._folder = folder
        self._places = places
        self._rank = rank
        self._activity = activity
        self._hang = settings.hang_seconds
        self._slow = None if self._hang is None else max(settings.slow_phase_seconds, self._hang)
        self._pause = min(
            settings.heartbeat_seconds, inf if self._hang is None else self._hang / 10
        )
        self._clock = AwakeClock(self._pause)
        self._leftovers = leftovers
        self._own: Heartbeat | None = None
        self._moved: tuple[tuple[int, int], float] | None = None
        """Position and ticks, and when they were first seen."""
        self._seen: Seen = {}
        self._end: End | None = None
        self._known = threading.Event()
        """Set when there is an end."""
        self._wake = threading.Event()
        self._over = threading.Event()
        self._stacks: IO[str] | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-watch", daemon=True)

    def __enter__(self) -> Watch:
        with suppress(OSError):
            self._stacks = self._folder.stack_file.open("a", encoding="utf-8")
            self._beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        alike = isinstance(error, (StopRequested, DivergedError, SaveError)) or (
            isinstance(error, UserError) and error.joint
        )
        if error is None or alike or len(self._places) == 1:
            self._stop()
            self._folder.leave()
            return
        if _is_of_a_collective(error) and self._reason() is not None:
            # the thread goes on: what is left to do for the end may wait for the others for ever
            raise RankLostError(self._end.why if self._end else "") from error
        self._stop()
        self._folder.tell(End("failed", self._rank, f"rank {self._rank} failed: {error!r:.300}"))

    @property
    def beats(self) -> int:
        """Heartbeats so far, also those that could not be written."""
        return 0 if self._own is None else self._own.beat

    def _stop(self) -> None:
        self._over.set()
        self._wake.set()
        self._thread.join(_GRACE_SECONDS)  # unless it waits for a file system that is gone
        faulthandler.cancel_dump_traceback_later()
        if self._stacks is not None and not self._thread.is_alive():
            self._stacks.close()

    def _reason(self) -> End | None:
        """Wait until it is known which rank is gone; None if all are there."""
        self._wake.set()
        self._known.wait(2 * self._pause)
        if self._end is None:  # a rank of a node where nobody else sees its process
            seen: Seen = {}
            self._observe(seen)
            self._known.wait(2 * _MISSED * self._pause)
            quiet = [sighting for sighting in self._observe(seen) if sighting.quiet > 0]
            if self._end is None and quiet:
                said = "; ".join(describe(sighting) for sighting in quiet)
                self._settle(End("lost", self._rank, f"lost: {said}"))
        return self._end

    # What the thread does

    def _run(self) -> None:
        while True:
            self._wake.wait(self._pause)
            self._wake.clear()
            if self._over.is_set():
                return
            with suppress(OSError):  # a full disk or a lost mount must not end the watch
                self._beat()
            end = self._folder.end() or self._lost() or self._hung()
            if end is not None:
                self._settle(end)
                self._end_process()

    def _beat(self) -> None:
        """Write what this rank does."""
        now = self._activity.now
        awake = self._clock.look()
        if self._moved is None or self._moved[0] != (now.position, now.ticks):
            self._moved = (now.position, now.ticks), awake
        collective, at = position_of_main_thread()
        place = self._places[self._rank]
        allowance = None if now.endless else self._slow if now.slow else self._hang
        self._own = Heartbeat(
            rank=place.rank,
            host=place.host,
            pid=place.pid,
            beat=1 if self._own is None else self._own.beat + 1,
            phase=now.phase,
            branch=now.branch,
            step=now.step,
            position=now.position,
            seconds=awake - self._moved[1],
            allowance=allowance,
            waits_in=collective,
            at=at,
        )
        faulthandler.cancel_dump_traceback_later()
        if allowance is not None and self._stacks is not None:
            # a thread in C, for the case that this one does not run: somebody keeps the lock of
            # the interpreter
            faulthandler.dump_traceback_later(
                allowance + _MISSED * self._pause, file=self._stacks, exit=False
            )
        self._folder.write(self._own)
        if self._own.beat == _SETTLED and self._leftovers is not None:
            self._leftovers.remove()

    def _lost(self) -> End | None:
        """Whether a rank that this one can see is gone."""
        here = self._places[self._rank]
        for place in self._places:
            if place != here and here.sees(place) and _state(place.pid) in (None, "zombie"):
                last = self._folder.read(place.rank)
                if last is not None:  # it has not left
                    who = describe(Sighting(last, state=GONE))
                    why = "If it said nothing itself, it was killed, often for lack of memory"
                    return End("lost", self._rank, f"{who}. {why}")
        return None

    def _hung(self) -> End | None:
        """Whether the run has made no progress for too long."""
        if self._hang is None or self._own is None or self._own.seconds < self._hang / 2:
            self._seen.clear()
            return None
        sightings = self._observe(self._seen)  # from half the time on, to see who is quiet
        if self._own.seconds < self._hang:
            return None
        why = judge(sightings)
        return None if why is None else End("hang", self._rank, f"no progress: {why}")

    def _observe(self, seen: Seen) -> list[Sighting]:
        """What the files of all ranks say now."""
        awake = self._clock.seconds
        here = self._places[self._rank]
        sightings = []
        for place in self._places:
            beat = self._own if place == here else self._folder.read(place.rank)
            if beat is None:
                continue
            number, since = seen.get(place.rank, (beat.beat, awake))
            if number != beat.beat:
                since = awake
            seen[place.rank] = beat.beat, since
            quiet = awake - since if awake - since > _MISSED * self._pause else 0.0
            state = _state(place.pid) if quiet and here.sees(place) else None
            sightings.append(Sighting(beat, quiet, state))
        return sightings

    def _settle(self, end: End) -> None:
        """Note why the run ends; the first rank to do so says it."""
        if self._known.is_set():
            return
        if self._folder.tell(end):
            sys.stderr.write(f"\nheadrace: {end.why}. {GO_ON}\n")
            sys.stderr.flush()
        self._end = self._folder.end() or end
        self._known.set()

    def _end_process(self) -> None:
        """End this process, unless its main thread does so in time."""
        pause = _GRACE_SECONDS
        if self._end is not None and self._end.kind == "hang":
            with suppress(OSError):
                write_stacks(self._folder.stack_file, self._end.why)
            pause = 2 * self._pause  # for the stacks of the other ranks
        if not self._over.wait(pause):
            os._exit(EXIT_FAULT)


def _state(pid: int) -> str | None:
    """The state of a process of this machine; None: there is none."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.Error:
        return None


def _is_of_a_collective(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _OF_COLLECTIVES)
