"""The watch of a job: its folder in the run folder, and a watch on each rank."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from headrace.config.watch import WatchConfig
from headrace.training.distributed import (
    World,
    barrier,
    failing_together,
    gather_json,
    leave_hangs_to_the_watch,
)
from headrace.training.watch.activity import Activity
from headrace.training.watch.files import FOLDER, Leftovers, Place, WatchFolder
from headrace.training.watch.watch import Watch


@dataclass(frozen=True)
class Job:
    """A job that is watched, as one rank sees it."""

    activity: Activity
    """Where the rank notes what it does."""
    folder: WatchFolder
    hosts: tuple[str, ...]
    """Names of the nodes, by rank."""


@contextmanager
def watched_job(run_folder: Path, settings: WatchConfig, world: World) -> Iterator[Job]:
    """Watch the ranks of a job for the time of a ``with`` block.

    If the run folder was not there before and nothing else is in it afterwards, it is removed.

    Raises:
        UserError: on every rank, if the folder cannot be made.
    """
    new = world.is_main and not run_folder.exists()
    leftovers = Leftovers(run_folder) if world.is_main else None
    # for people; two jobs never share a name
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
    mine = {"name": name, "new": new, "place": asdict(Place.here(world.rank))}
    said = gather_json(mine, world)
    path = run_folder / FOLDER / said[0]["name"]
    with failing_together(world):
        if world.is_main:
            path.mkdir(parents=True)
    leave_hangs_to_the_watch()
    places = [Place(**rank["place"]) for rank in said]
    folder = WatchFolder(path, world.rank)
    activity = Activity()
    try:
        with Watch(folder, places, world.rank, activity, settings, leftovers):
            barrier(world)
            yield Job(activity, folder, tuple(place.host for place in places))
    finally:
        leave_hangs_to_the_watch(leave=False)
        if said[0]["new"]:
            with suppress(OSError):  # not empty, as a rule
                run_folder.rmdir()
