"""Workers of a build: Dask's, on this machine or wherever they were started."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from headrace.corpus.building.sandbox import close_idle
from headrace.errors import CorpusError, HeadraceError, MissingExtraError, Problem, UserError

Item = TypeVar("Item")

_CONNECT_SECONDS = 60
_WAIT_SECONDS = 600
"""How long to wait for workers that a scheduler does not have yet."""
_AHEAD = 2
"""Tasks a thread that are given out, beside the one it works on."""
_SETTINGS = {
    "distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS}s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.worker.memory.terminate": False,  # documents are examined in other processes
    "distributed.worker.memory.pause": False,
}


class WorkersError(HeadraceError):
    """The workers are gone."""


class Workers:
    """Runs tasks; the results do not depend on how many there are."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's page about the work."""
        return self._client.dashboard_link or None

    @property
    def threads(self) -> int:
        """Tasks that can be worked on at a time."""
        return sum(self._client.nthreads().values())

    def run(
        self, function: Callable[[Item], Any], items: Iterable[Item]
    ) -> Generator[tuple[Item, Any], None, None]:
        """Call a function with each item, and give each with its result as it is done.

        Raises:
            UserError: as the function does.
            HeadraceError: as the function does, or if workers die again and again.
        """
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        waiting = iter(items)
        futures: dict[Any, Item] = {}
        done: Any = as_completed()

        def give(count: int) -> None:
            for item in islice(waiting, count):
                future = self._client.submit(_guarded, function, item, pure=False)
                futures[future] = item
                done.add(future)

        try:
            give((_AHEAD + 1) * max(1, self.threads))
            while futures:
                future = next(done)
                item = futures.pop(future)
                try:
                    result = _opened(future.result())
                except KilledWorker as error:
                    raise WorkersError(
                        f"a worker died each time it worked on a task: {error}"
                    ) from error
                future.release()
                yield item, result
                give(1)
        finally:
            self._client.cancel(list(futures))

    def each(self, function: Callable[[int], Any], numbers: Iterable[int]) -> Sequence[Any]:
        """The results for all numbers, in their order."""
        results = dict(self.run(function, numbers))
        return [results[number] for number in sorted(results)]

    def close_sandboxes(self) -> None:
        """End the processes in which documents are examined."""
        self._client.run(close_idle)


@contextmanager
def local_workers(count: int) -> Iterator[Workers]:
    """Workers on this machine: one in this process, or each in a process of its own."""
    distributed = _distributed()
    with ExitStack() as stack:
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=count > 1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                **({"host": "127.0.0.1"} if count > 1 else {}),
            )
        )
        client = stack.enter_context(distributed.Client(cluster, timeout=_CONNECT_SECONDS))
        yield from _until_closed(client)


@contextmanager
def workers_of(scheduler: str) -> Iterator[Workers]:
    """Workers that were started elsewhere.

    Args:
        scheduler: address (``tcp://node:8786``), or the file that ``dask scheduler
            --scheduler-file`` writes.

    Raises:
        CorpusError: if it does not answer, or has no workers in ten minutes.
    """
    distributed = _distributed()
    if "://" not in scheduler and not _appears(Path(scheduler)):
        remedy = "Start one with: dask scheduler --scheduler-file FILE"
        raise CorpusError(Problem("no such scheduler file", "--scheduler", scheduler, remedy))
    words = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        client = distributed.Client(**words, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        remedy = "Check the address, and that the scheduler runs"
        raise CorpusError(
            Problem("the scheduler does not answer", "--scheduler", scheduler, remedy)
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_WAIT_SECONDS)
        except TimeoutError as error:
            remedy = "Start some with: dask worker --nthreads 1 --scheduler-file FILE"
            raise CorpusError(
                Problem("the scheduler has no workers", "--scheduler", scheduler, remedy)
            ) from error
        yield from _until_closed(client)


def _until_closed(client: Any) -> Iterator[Workers]:
    workers = Workers(client)
    try:
        yield workers
    finally:
        workers.close_sandboxes()


def _distributed() -> Any:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError("distributed", "corpus", "building a corpus") from error
    dask.config.set(_SETTINGS)
    # What its workers say of their own ends would stand between the progress of the build.
    warnings.filterwarnings("ignore", message="Creating scratch directories")
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return distributed


def _appears(file: Path) -> bool:
    """Whether a file is there, or comes in a minute: a scheduler that is starting writes it."""
    end = time.monotonic() + _CONNECT_SECONDS
    while not file.is_file():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _guarded(function: Callable[[Any], Any], item: Any) -> dict[str, Any]:
    """The result, or the problems: exceptions with those do not come through a pickle whole."""
    try:
        return {"result": function(item)}
    except UserError as error:
        problems = [(one.what, one.where, one.value, one.remedy) for one in error.problems]
        return {"problems": problems}
    except HeadraceError as error:
        return {"fault": str(error)}


def _opened(answer: dict[str, Any]) -> Any:
    if "problems" in answer:
        raise CorpusError([Problem(*problem) for problem in answer["problems"]])
    if "fault" in answer:
        raise HeadraceError(answer["fault"])
    return answer["result"]
