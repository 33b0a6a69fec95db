"""Where the ranks of a job meet before there is a process group: a store with time limits.

A rank that is missing is a name here, and no hang.  Rank 0 has the store, or ``torchrun`` has it
already; all others are its clients.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import TCPStore  # type: ignore[attr-defined]

from headrace.errors import HeadraceError
from headrace.slurm.ranks import tasks_per_node

_PREFIX = "headrace/check"
_PAUSE = 0.2
"""Seconds between two attempts to reach rank 0."""
_LEAVING_SECONDS = 10.0
"""For all ranks to hear the end."""


class NotMetError(HeadraceError):
    """This rank does not reach rank 0, or rank 0 did not answer in time."""


class Meeting:
    """The ranks of a job, as one of them."""

    def __init__(self, rank: int, size: int, address: str, port: int, seconds: float) -> None:
        """Reach rank 0.

        Args:
            rank: of this process.
            size: number of ranks.
            address: host of rank 0.
            port: of its store.
            seconds: how long others are waited for.

        Raises:
            NotMetError: if it cannot be reached in this time, or its port is taken.
        """
        self.rank = rank
        self.size = size
        self.seconds = seconds
        self._address = address
        self._port = port
        self._hosts_store = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        if not self._hosts_store:
            _reach(address, port, seconds)
        self.store = self.another_client(host=self._hosts_store)

    def another_client(self, *, host: bool = False) -> Store:
        """A connection of its own: while one thread waits on a client, no other can use it."""
        try:
            store = TCPStore(
                self._address,
                self._port,
                is_master=host,
                timeout=timedelta(seconds=self.seconds),
                wait_for_workers=False,
                multi_tenant=True,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            if host:
                reason = f"the port of rank 0 cannot be used, set MASTER_PORT to another: {reason}"
            place = f"{self._address}:{self._port}"
            raise NotMetError(f"{place}: {reason}") from None
        return PrefixStore(_PREFIX, store)

    def say(self, key: str, value: Any) -> None:
        """Leave a value for the others, or for one of them."""
        self.store.set(key, json.dumps(value))

    def hear(self, key: str, seconds: float) -> Any:
        """Return the value of a key as soon as it is there.

        Raises:
            NotMetError: if it does not come in time, or the store is gone.
        """
        try:
            self.store.wait([key], timedelta(seconds=max(seconds, 0.001)))
            return json.loads(self.store.get(key))
        except RuntimeError:
            raise NotMetError(f"no answer within {seconds:.0f} seconds: {key}") from None

    def gather(self, key: str, ranks: Sequence[int], seconds: float) -> dict[int, Any]:
        """Return what ranks have left under ``key/RANK``; those that do not in time are left out.

        The time is that of all together.
        """
        end = time.monotonic() + seconds
        found = {}
        for rank in ranks:
            with suppress(NotMetError):
                found[rank] = self.hear(f"{key}/{rank}", end - time.monotonic())
        return found

    def leave(self, ranks: Sequence[int] = ()) -> None:
        """End together: whoever has the store stays until these others have left, or for a time."""
        self.say(f"left/{self.rank}", True)
        if self._hosts_store:
            self.gather("left", ranks, _LEAVING_SECONDS)


def _reach(address: str, port: int, seconds: float) -> None:
    """Wait until somebody listens there."""
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        try:
            with socket.create_connection((address, port), timeout=max(left, 0.1)):
                return
        except OSError as error:
            if left <= _PAUSE:
                raise NotMetError(
                    f"rank 0 is not reached at {address}:{port} within {seconds:g} seconds: "
                    f"{error.strerror or error}"
                ) from None
        time.sleep(_PAUSE)


def expected_hosts(environment: Mapping[str, str], size: int) -> list[str | None]:
    """Return where each rank should be, as far as SLURM says so; None: not known.

    With one task a rank they follow the tasks of the step; with one a node, its ranks are as many
    on each.
    """
    nodes = environment.get("SLURM_STEP_NODELIST")
    if nodes is None:
        return [None] * size
    try:
        listed = subprocess.run(
            ["scontrol", "show", "hostnames", nodes],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout.split()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return [None] * size
    counts = tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    if sum(counts) != size and size % len(listed) == 0:
        counts = [size // len(listed)] * len(listed)
    hosts = [host for host, count in zip(listed, counts, strict=False) for _ in range(count)]
    return list(hosts) if len(hosts) == size else [None] * size


def clock_of_ranks(
    meeting: Meeting, ranks: Sequence[int], now: Callable[[], float] = time.time, rounds: int = 5
) -> dict[int, tuple[float, float]]:
    """Return how far the clocks of some ranks are ahead of that of rank 0, which asks them.

    As NTP does it: the answer was given in the middle between question and arrival, or as far from
    it as half of the way there and back; of several rounds the fastest counts.

    Returns:
        By rank, the difference and its uncertainty in seconds.  If one does not answer, nobody
        behind it is asked: they would wait for it too.
    """
    found: dict[int, tuple[float, float]] = {}
    with suppress(NotMetError):
        for rank in ranks:
            answers = []
            for number in range(rounds):
                asked, start = now(), time.monotonic()
                meeting.say(f"clock/{rank}/{number}/asked", True)
                theirs = float(meeting.hear(f"clock/{rank}/{number}/answer", meeting.seconds))
                half = (time.monotonic() - start) / 2
                answers.append((theirs - asked - half, half))
            found[rank] = min(answers, key=lambda answer: answer[1])
    return found


def tell_clock(meeting: Meeting, now: Callable[[], float] = time.time, rounds: int = 5) -> None:
    """Answer :func:`clock_of_ranks`, as one of the ranks that are asked."""
    for number in range(rounds):
        meeting.hear(f"clock/{meeting.rank}/{number}/asked", meeting.seconds)
        meeting.say(f"clock/{meeting.rank}/{number}/answer", now())
