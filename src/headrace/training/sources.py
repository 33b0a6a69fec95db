"""The sources of a run: how its shards are opened, and what is chosen of them; needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from headrace.config import RunConfig
from headrace.errors import Problem, UserError
from headrace.shards.cache import ShardCache
from headrace.shards.reader import ShardReader, open_readers
from headrace.slurm.site import LOCAL_SCRATCH
from headrace.stream.selected import Chosen, read_chosen


def cache_of_run(config: RunConfig) -> ShardCache | None:
    """The cache of remote shards that the run is to have: on this node's disk, if it has one.

    It is no other run that has its copies elsewhere, so this is no change of the config.
    """
    cache, scratch = config.headrace.data.shard_cache, local_scratch()
    if cache is None:
        return None
    folder = cache.folder if scratch is None else scratch / "shards"
    return ShardCache(folder, limit_bytes=cache.limit_bytes)


def local_scratch() -> Path | None:
    """The folder on a disk of this node that a job was given, for copies of what it reads."""
    folder = os.environ.get(LOCAL_SCRATCH)
    return Path(folder) if folder else None


def open_shards(
    config: RunConfig, urls: Iterable[str], problems: list[Problem]
) -> dict[str, ShardReader]:
    """Open sources by URL, with the shard cache of the run; what fails goes to ``problems``."""
    return open_readers(urls, problems, cache_of_run(config))


def chosen_samples(
    config: RunConfig,
    folder: str | None,
    readers: Mapping[str, ShardReader],
    problems: list[Problem],
) -> dict[str, Chosen]:
    """What the selection in a folder chose of the training sources of a run; empty for None.

    ``readers`` are sources by language; what is wrong goes to ``problems``.
    """
    if folder is None:
        return {}
    try:
        return read_chosen(folder, config.headrace.data.train, readers)
    except UserError as error:
        problems += error.problems
        return {}


def selection_folder(config: RunConfig, problems: list[Problem]) -> str | None:
    """The folder of the run's selection; None without one, or before anything is chosen.

    The section ``headrace.selection`` needs torch: its fingerprint is that of an encoder too.
    """
    if config.headrace.selection is None:
        return config.headrace.data.selection
    from headrace.training.selection import check_selection

    selection = check_selection(config, problems)
    return None if selection is None else selection.finished_folder
