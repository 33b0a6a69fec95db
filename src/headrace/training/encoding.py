"""The encoding of a run's data under the eyes of its watch, broken off by a stop signal."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from headrace.config import RunConfig
from headrace.encoding.node_copies import copy_to_node
from headrace.errors import StopRequested
from headrace.training.data import OpenedData, RunData, encode_data
from headrace.training.distributed import World, failing_together, on_any_rank
from headrace.training.signals import StopFlag
from headrace.training.sources import local_scratch
from headrace.training.watch.job import Job

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
"""Between two looks at the file by which another rank says that it was stopped."""


def encode_watched(
    opened: OpenedData,
    config: RunConfig,
    left_out: Mapping[str, Collection[str]] | None,
    world: World,
    stop_flag: StopFlag,
    job: Job,
) -> RunData:
    """Encode what is not in the cache yet; each rank by itself, between which shards are shared.

    Raises:
        UserError: on every rank, with what is wrong with the data.
        StopRequested: on every rank, after a stop signal to any.  Finished shards stay.
    """
    job.activity.enter("encoding")
    looked = time.monotonic()

    def on_progress(_samples: int) -> None:
        nonlocal looked
        job.activity.tick()
        elsewhere = False
        if time.monotonic() - looked > _POLL_SECONDS:
            looked = time.monotonic()
            elsewhere = job.folder.stop_file.exists()
        if stop_flag.asked or elsewhere:
            raise StopRequested

    data: RunData | None = None
    with failing_together(world):
        try:
            data = encode_data(opened, config, left_out, on_progress)
        except StopRequested:
            with suppress(OSError):
                job.folder.stop_file.touch()
    if on_any_rank(data is None, world):
        raise StopRequested(
            "stopped by a signal while data was encoded, start the same command again to go on"
        )
    assert data is not None
    if scratch := local_scratch():
        job.activity.enter("copying to the node")
        sources = (*data.whole.values(), *data.validation.values())
        shards = [shard for source in sources for shard in source.shards]
        copied = copy_to_node(shards, scratch, job.activity.tick)
        if world.is_main:
            logger.info("read from this node: %d of %d encoded shards", copied, len(shards))
    return data
