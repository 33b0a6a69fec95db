"""What a stream needs to know before it reads: its settings, its sources, and its rank."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch.distributed

from headrace.errors import ConfigError, Problem, ShardError, UserError
from headrace.shards.cache import ShardCache
from headrace.shards.reader import ShardReader
from headrace.shards.storage import is_local


def find_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """This process among those that share a stream, and how many these are.

    What is None is taken from ``torch.distributed`` if it is initialised, else from the
    environment variables RANK and WORLD_SIZE, else it is 0 and 1.
    """
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if joined else int(os.environ.get("RANK", 0))
    if world_size is None:
        world_size = (
            torch.distributed.get_world_size() if joined else int(os.environ.get("WORLD_SIZE", 1))
        )
    if not 0 <= rank < world_size:
        raise ConfigError(
            Problem(
                "a rank counts from 0 and is below the world size",
                "rank, world_size",
                f"{rank}, {world_size}",
                "Give both, or neither",
            )
        )
    return rank, world_size


def check_settings(
    sources: Mapping[str, Any],
    weights: Mapping[str, float] | None,
    batch_size: int | None,
    bad_shards: str,
) -> None:
    """Raise ``ConfigError`` with all that is wrong with the settings of a stream."""
    problems = []
    if batch_size is not None and batch_size < 1:
        problems.append(Problem("must be at least 1", "batch_size", str(batch_size), "Raise it"))
    if bad_shards not in ("refuse", "quarantine"):
        problems.append(Problem("not a rule", "bad_shards", bad_shards, "Use refuse or quarantine"))
    differing = set() if weights is None else set(weights) ^ set(sources)
    if differing:
        problems.append(
            Problem(
                "weights and sources have different names",
                "weights",
                ", ".join(sorted(differing)),
                "Give one weight for each source",
            )
        )
    if problems:
        raise ConfigError(problems)


def open_sources(
    sources: Mapping[str, str | ShardReader], cache: ShardCache | None
) -> dict[str, ShardReader]:
    """Open the sources that are URLs; remote ones without a cache get the default cache.

    Raises ``ShardError`` with all that is wrong with them.
    """
    urls = [source for source in sources.values() if isinstance(source, str)]
    if cache is None and not all(map(is_local, urls)):
        cache = ShardCache()
    readers: dict[str, ShardReader] = {}
    problems: list[Problem] = []
    for name, source in sources.items():
        try:
            readers[name] = (
                source if isinstance(source, ShardReader) else ShardReader(source, cache=cache)
            )
        except UserError as error:
            problems += error.problems
    if problems:
        raise ShardError(problems)
    return readers
