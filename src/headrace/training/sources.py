"""The sources of a run: how its shards are opened, and what is chosen of them; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.config import RunConfig
from headrace.errors import Problem, UserError
from headrace.shards.cache import ShardCache
from headrace.shards.reader import ShardReader, open_readers
from headrace.stream.selected import Chosen, read_chosen


def open_shards(
    config: RunConfig, urls: Iterable[str], problems: list[Problem]
) -> dict[str, ShardReader]:
    """Open sources by URL, with the shard cache of the run; what fails goes to ``problems``."""
    cache = config.headrace.data.shard_cache
    return open_readers(
        urls, problems, ShardCache(cache.folder, limit_bytes=cache.limit_bytes) if cache else None
    )


def chosen_samples(
    config: RunConfig, readers: Mapping[str, ShardReader], problems: list[Problem]
) -> dict[str, Chosen]:
    """What the selection of the run chose of these sources; empty without a selection.

    ``readers`` are training sources by language; what is wrong goes to ``problems``.
    """
    data = config.headrace.data
    if data.selection is None:
        return {}
    try:
        return read_chosen(data.selection, data.train, readers)
    except UserError as error:
        problems += error.problems
        return {}
