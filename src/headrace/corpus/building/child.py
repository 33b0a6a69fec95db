"""The process in which documents are read and examined: it may hang, run out of memory, or die.

``python -m headrace.corpus.building.child``, started by :mod:`headrace.corpus.building.sandbox`.
Standard input brings the recipe on one line and then slices of files; descriptor 1 takes what was
found.  Nothing that a library prints goes anywhere: it may quote a document.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from headrace.corpus.building import messages
from headrace.corpus.building.messages import packed
from headrace.corpus.documents import Record, Reject
from headrace.corpus.media import RefusalError, read_records
from headrace.corpus.media.originals import Originals
from headrace.corpus.recipe.files import InputFile, stamp_of
from headrace.errors import StorageError, UserError

if TYPE_CHECKING:
    from headrace.corpus.building.examine import Examiner
    from headrace.corpus.recipe.settings import Recipe

_FLUSH_BYTES = 1 << 16
_FLUSH_SECONDS = 1.0
"""Longest silence while documents are examined one after the other."""


class _Pipe:
    """Messages to the worker."""

    def __init__(self, descriptor: int) -> None:
        self._file: IO[bytes] = os.fdopen(descriptor, "wb", buffering=_FLUSH_BYTES)
        self._flushed = time.monotonic()

    def send(self, *message: Any, flush: bool = False) -> None:
        """Write a message, to be on its way now or within a second of the next one's."""
        self._file.write(packed(message))
        now = time.monotonic()
        if flush or now - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = now


class _Limits:
    """Processor time of a record: an exception first, and the end of the process if that is lost.

    A library may catch the exception, or stay in code that knows nothing of Python's signals.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        signal.signal(signal.SIGPROF, _out_of_time)

    def begin(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + 1.5 * self._seconds) + 2, hard))

    @contextmanager
    def off(self) -> Iterator[None]:
        """No exception in the middle of a message; what is left of the time is not kept."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        yield


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise RefusalError("time limit", "it took too much processor time")


def main() -> int:
    """Read slices until there are no more."""
    out = _Pipe(os.dup(1))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with os.fdopen(os.dup(0), "rb") as orders:
        try:
            return _serve(orders, out)
        except UserError as error:
            problems = [(one.what, one.where, one.value, one.remedy) for one in error.problems]
            kind = type(error).__name__
            out.send(messages.FAILED, {"kind": kind, "problems": problems}, flush=True)
        except BrokenPipeError:
            return 1  # the worker is gone
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            places = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames]
            text = f"{type(error).__name__} in {' < '.join(reversed(places))}"
            out.send(messages.FAILED, {"fault": text}, flush=True)
    return 1


def _serve(orders: IO[bytes], out: _Pipe) -> int:
    from headrace.corpus.building.examine import Examiner
    from headrace.corpus.recipe.settings import Recipe

    settings = json.loads(orders.readline())
    recipe = Recipe.model_validate_json(settings["recipe"])
    slices = _Slices(recipe, Examiner(recipe), _Limits(settings["seconds"]), out)
    out.send(messages.READY, flush=True)
    _limit_memory(settings["memory"])
    unpacker = messages.Unpacker()
    while data := os.read(orders.fileno(), 1 << 16):
        for order in unpacker.feed(data):
            try:
                slices.read(order)
            except MemoryError:
                signal.setitimer(signal.ITIMER_PROF, 0)
                out.send(messages.MEMORY, flush=True)
                return 1
            except RefusalError:
                return 1  # out of time where no record is: the worker says of which
    return 0


class _Slices:
    """Reads slices, and examines their records."""

    def __init__(self, recipe: Recipe, examiner: Examiner, limits: _Limits, out: _Pipe) -> None:
        self._recipe = recipe
        self._examiner = examiner
        self._limits = limits
        self._out = out
        self._fresh = True
        """Whether no record has been examined yet, which may have left something in memory."""

    def read(self, order: Any) -> None:
        """Read the records of a slice, and send their rows, but for those that are known already.

        Raises:
            MemoryError: if a record needs more memory than there is: the process must end, as the
                next one may have more.
        """
        one = messages.slice_of(order)
        file = one.file
        if found := _change(file):
            self._out.send(messages.CHANGED, found, flush=True)
            return
        self._limits.begin()
        source = self._recipe.sources[file.source]
        records = read_records(file.url, source, key=file.key, start=one.start, end=one.end)
        with Originals(file.url, source) as originals:
            original = originals.of if source.keep_original else None
            self._read(file, records, original, skip=order["skip"], careful=order["careful"])

    def _read(
        self,
        file: InputFile,
        records: Iterator[Record | Reject],
        original: Callable[[Record], bytes | None] | None,
        *,
        skip: int,
        careful: bool,
    ) -> None:
        """Examine records; if careful, nothing waits: the next one may end the process."""
        limits, out = self._limits, self._out
        read = 0
        for record in records:
            if read < skip:
                read += 1
                limits.begin()
                continue
            if isinstance(record, Reject):
                if record.reason == "changed while read":
                    break
                if record.reason == "memory limit" and not self._fresh:
                    raise MemoryError
            read += 1
            with limits.off():
                out.send(messages.RECORD, record.key, record.offset, flush=careful)
            limits.begin()
            row = self._examiner.row(record, file, original)
            with limits.off():
                out.send(messages.ROW, messages.row_message(row), flush=careful)
            self._fresh = False
            limits.begin()
        with limits.off():
            found = _change(file)
            done = (messages.CHANGED, found) if found else (messages.SLICE_DONE, read)
            out.send(*done, flush=True)


def _change(file: InputFile) -> str | None:
    """What is different from when the build began."""
    try:
        return None if stamp_of(file.url) == file.stamp else "size or time of the file"
    except StorageError:
        raise
    except UserError as error:
        return error.problems[0].what


def _limit_memory(more: int) -> None:
    """Let the process have ``more`` bytes beside what it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + more
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    sys.exit(main())
