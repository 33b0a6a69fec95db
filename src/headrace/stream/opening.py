"""What a stream needs to know before it reads: its settings, its sources, and its rank."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from os import PathLike
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

    Raises ``ConfigError`` where they do not fit, or where one of several processes is not told
    which of them it is: all would take the same part.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = torch.distributed.get_rank() if rank is None else rank
        world_size = torch.distributed.get_world_size() if world_size is None else world_size
    else:
        rank = _of_environment("RANK") if rank is None else rank
        world_size = _of_environment("WORLD_SIZE") if world_size is None else world_size
    world_size = 1 if world_size is None else world_size
    if rank is None and world_size == 1:
        rank = 0
    if rank is None or not 0 <= rank < world_size:
        raise ConfigError(
            Problem(
                "a rank counts from 0 and is below the world size",
                "rank, world_size",
                f"{rank}, {world_size}",
                "Give both, or neither",
            )
        )
    return rank, world_size


def _of_environment(name: str) -> int | None:
    """The number that an environment variable holds; None where it is unset or empty."""
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise ConfigError(
            Problem("not a whole number", name, text, "Unset it, or start with torchrun")
        )
    return int(text) if text else None


def check_settings(
    sources: Mapping[str, Any],
    weights: Mapping[str, float] | None,
    fields: str | Sequence[str] | None,
    bad_shards: str,
    **whole: int | None,
) -> None:
    """Raise ``ConfigError`` with all that is wrong with the settings of a stream.

    ``whole`` are those that are whole numbers.
    """
    problems = []
    for name, number in whole.items():
        if number is not None and not isinstance(number, Integral):
            problems.append(Problem("must be a whole number", name, repr(number), "Correct it"))
        elif number is not None and number < 1 and name == "batch_size":
            problems.append(Problem("must be at least 1", name, str(number), "Raise it"))
    if not (fields is None or fields):
        problems.append(Problem("no field is named", "fields", repr(fields), "Name one or more"))
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
    sources: Mapping[str, str | PathLike[str] | ShardReader],
    cache: ShardCache | None,
    *,
    require_all: bool,
) -> dict[str, ShardReader]:
    """Open the sources that are URLs or paths; remote ones get the default cache for ``None``.

    With ``require_all`` every shard must be there.

    Raises ``ShardError`` with all that is wrong with them.
    """
    urls = {
        name: os.fspath(source)
        for name, source in sources.items()
        if not isinstance(source, ShardReader)
    }
    if cache is None and not all(map(is_local, urls.values())):
        cache = ShardCache()
    readers: dict[str, ShardReader] = {}
    problems: list[Problem] = []
    for name, source in sources.items():
        try:
            readers[name] = (
                source
                if isinstance(source, ShardReader)
                else ShardReader(urls[name], cache=cache, require_all=require_all)
            )
        except UserError as error:
            problems += error.problems
    if problems:
        raise ShardError(problems)
    return readers
