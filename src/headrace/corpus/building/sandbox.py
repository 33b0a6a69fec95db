"""The worker's side of the process in which documents are examined: it watches, and starts again.

A document that takes too long or too much memory, or that kills the process, is rejected; the
process is started again behind it.  What is found comes in blocks, which is cheap, until a process
dies: then nobody knows at which document, and the rest of the slice is read carefully, each record
and each row sent at once.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from headrace.corpus.building import messages
from headrace.corpus.building.outcomes import rejected_row
from headrace.corpus.building.parts import Slice
from headrace.corpus.documents import Reject, RejectReason
from headrace.errors import HeadraceError, Problem, UserError

CLOCK = 10
"""How many times as long as its processor time a document may take by the clock."""
_START_SECONDS = 600.0
_PIECE_BYTES = 1 << 20
_TRIES = 2
"""Starts for one document: what earlier ones left in memory may have been to blame."""


class SandboxError(HeadraceError):
    """The process in which documents are examined cannot do its work at all."""


@dataclass(frozen=True)
class SandboxSettings:
    """What a process needs to know."""

    recipe: str
    """JSON."""
    memory_bytes: int
    seconds: float
    """Processor time of a document."""


@dataclass(frozen=True)
class Changed:
    """A file is not what it was when the build began."""

    detail: str


@dataclass
class _Reading:
    """How far the reading of a slice is."""

    slice: Slice
    done: int = 0
    """Records whose rows are known."""
    key: str | None = None
    """Of the record in work; None while the next one is being read."""
    offset: int | None = None
    tries: int = 0
    """Starts in vain for the record in work."""
    careful: bool = False
    """Whether the process says at once what it does, as one has died before."""


class _Died(Exception):  # noqa: N818 - not an error: it is what the sandbox is for
    """The process has ended, or had to be ended."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: RejectReason = reason
        self.detail = detail


@dataclass
class Sandbox:
    """A process that examines documents, started when it is needed."""

    settings: SandboxSettings
    read: int = 0
    """Records that the reader found in the last slice, as the process counts them."""
    _process: subprocess.Popen[bytes] | None = None
    _unpacker: messages.Unpacker = field(default_factory=messages.Unpacker)
    _waiting: list[Any] = field(default_factory=list)

    def rows(self, one: Slice, source: str) -> Iterator[dict[str, Any] | Changed]:
        """A row for each record of a slice, in order; :class:`Changed`, if it is, is the last.

        Raises:
            UserError: if a step of the recipe cannot be made, or a store does not answer.
            SandboxError: if the process fails in any other way that no document is to blame for.
        """
        reading = _Reading(one)
        while True:
            try:
                yield from self._attempt(reading)
                return
            except _Died as death:
                self.close()
                if not reading.careful:
                    reading.careful = True
                    continue
                reading.tries += 1
                if death.reason != "time limit" and reading.tries < _TRIES:
                    continue
                yield self._rejected(reading, death, source)
                if reading.key is None:
                    self.read = reading.done + 1
                    return
                reading.done += 1
                reading.key, reading.tries = None, 0

    def _attempt(self, reading: _Reading) -> Iterator[dict[str, Any] | Changed]:
        """The rows that are still to come, until the end of the slice or of the process."""
        self._started()
        reading.key = None
        order = messages.slice_message(reading.slice, reading.done, careful=reading.careful)
        self._send(messages.packed(order))
        while True:
            kind, *content = self._receive(CLOCK * self.settings.seconds)
            if kind == messages.RECORD:
                reading.key, reading.offset = content
            elif kind == messages.ROW:
                reading.done += 1
                reading.key, reading.tries = None, 0
                yield content[0]
            elif kind == messages.MEMORY:
                raise _Died("memory limit", f"more than {self.settings.memory_bytes} bytes")
            elif kind == messages.CHANGED:
                yield Changed(content[0])
                return
            elif kind == messages.FAILED:
                raise self._failure(content[0])
            else:
                self.read = content[0]
                return

    def _rejected(self, reading: _Reading, death: _Died, source: str) -> dict[str, Any]:
        file = reading.slice.file
        if reading.key is not None:
            reject = Reject(reading.key, death.reason, death.detail, reading.offset)
        else:
            detail = f"{death.detail}; reading ended behind record {reading.done} of this part"
            reject = Reject(file.key, death.reason, detail, reading.slice.start)
        return rejected_row(reject, source, file.url)

    def close(self) -> None:
        """End the process and whatever it has started."""
        process, self._process = self._process, None
        self._waiting.clear()
        self._unpacker = messages.Unpacker()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()

    def _started(self) -> None:
        if self._process is not None:
            return
        threads = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headrace.corpus.building.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(threads, "1")},
            start_new_session=True,  # so that what it starts can be ended with it
        )
        settings = self.settings
        try:
            self._send(
                messages.settings_message(settings.recipe, settings.memory_bytes, settings.seconds)
            )
            kind, *content = self._receive(_START_SECONDS)
        except _Died as death:
            self.close()
            raise SandboxError(
                f"the process that examines documents does not start: {death.detail}"
            ) from None
        if kind == messages.FAILED:
            raise self._failure(content[0])

    def _send(self, data: bytes) -> None:
        try:
            _pipe(self._running.stdin).write(data)
            _pipe(self._running.stdin).flush()
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self, seconds: float) -> Any:
        """The next message; :class:`_Died` if the process ends, or is silent for so long."""
        while not self._waiting:
            pipe = _pipe(self._running.stdout)
            with selectors.DefaultSelector() as selector:
                selector.register(pipe, selectors.EVENT_READ)
                if not selector.select(seconds):
                    raise _Died("time limit", f"more than {seconds:g} s by the clock")
            data = os.read(pipe.fileno(), _PIECE_BYTES)
            if not data:
                raise self._death()
            self._waiting = list(reversed(list(self._unpacker.feed(data))))
        return self._waiting.pop()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _death(self) -> _Died:
        """Why the process has ended."""
        code = self._running.wait()
        if code == -signal.SIGXCPU:
            limit = self.settings.seconds
            return _Died("time limit", f"more than {limit:g} s of processor time")
        if code == -signal.SIGKILL:
            return _Died("memory limit", "ended by the system, which had no more memory")
        if code < 0:
            return _Died("crashed", f"ended by signal {-code}")
        return _Died("crashed", f"exit code {code}")

    def _failure(self, content: dict[str, Any]) -> HeadraceError:
        self.close()
        if "fault" in content:
            return SandboxError(f"the process that examines documents failed: {content['fault']}")
        return UserError([Problem(*problem) for problem in content["problems"]])


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


_IDLE: list[Sandbox] = []
_LOCK = threading.Lock()


@contextlib.contextmanager
def borrowed(settings: SandboxSettings) -> Iterator[Sandbox]:
    """A sandbox of this process that nobody else uses meanwhile; it is kept for the next one."""
    with _LOCK:
        fitting = [one for one in _IDLE if one.settings == settings]
        # of an earlier build, whose last task came back when the others were closed
        left_over = [one for one in _IDLE if one.settings != settings]
        sandbox = fitting.pop() if fitting else Sandbox(settings)
        _IDLE[:] = fitting
    for one in left_over:
        one.close()
    try:
        yield sandbox
    except BaseException:
        sandbox.close()
        raise
    with _LOCK:
        _IDLE.append(sandbox)


def close_idle() -> None:
    """End the processes that this one keeps."""
    with _LOCK:
        idle = list(_IDLE)
        _IDLE.clear()
    for sandbox in idle:
        sandbox.close()
