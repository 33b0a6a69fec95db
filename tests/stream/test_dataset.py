from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.shards import Sample, ShardReader, ShardWriter
from headrace.stream import ShardStream
from headrace.stream.plan import Locations

SIZES = {"en": 73, "hi": 29, "th": 11}
"""Samples of each source, in shards of 10."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    for name, size in SIZES.items():
        with ShardWriter(str(folder / name), samples_per_shard=10) as writer:
            for number in range(size):
                fields = {"txt": f"{name} {number}".encode(), "json": b"{}"}
                writer.write(Sample(f"{name}-{number}", fields))
    return {name: str(folder / name) for name in SIZES}


@pytest.fixture(scope="module")
def make(sources: dict[str, str]) -> Callable[..., ShardStream]:
    def make_stream(**settings: Any) -> ShardStream:
        return ShardStream(sources, **{"fields": "txt", "seed": 5, **settings})

    return make_stream


def global_order(stream: ShardStream, epochs: int) -> list[bytes]:
    """The texts of some epochs, by the plan and the reader alone."""
    import numpy as np

    found = []
    readers = [ShardReader(source.url) for source in stream.plan.sources]
    for epoch in range(epochs):
        places: Locations = stream.plan.locate(epoch, np.arange(stream.plan.samples_per_epoch))
        for source, shard, sample in zip(places.source, places.shard, places.sample, strict=True):
            found.append(readers[source].shard(int(shard))[int(sample)].fields["txt"])
    return found


def interleaved(parts: list[list[list[bytes]]]) -> list[bytes]:
    """The global order again, from the batches of all ranks."""
    whole = []
    for batches in zip(*parts, strict=True):
        world = len(batches)
        size = sum(map(len, batches))
        whole += [batches[number % world][number // world] for number in range(size)]
    return whole


def test_an_epoch_is_the_order_of_the_plan_and_the_next_iteration_the_next_epoch(
    make: Callable[..., ShardStream],
) -> None:
    stream = make()
    assert [*stream, *stream, *stream] == global_order(stream, 3)
    assert stream.epoch == 3


@given(
    world=st.integers(1, 7),
    batch_size=st.integers(1, 130),
    start=st.integers(0, 300),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_ranks_together_make_the_global_order_from_any_position(
    make: Callable[..., ShardStream], world: int, batch_size: int, start: int, temperature: float
) -> None:
    clean = global_order(make(temperature=temperature), 4)
    begin = make(temperature=temperature, rank=0, world_size=1).state_at(start)
    parts = []
    for rank in range(world):
        stream = make(temperature=temperature, rank=rank, world_size=world, batch_size=batch_size)
        stream.load_state_dict(begin)
        parts.append([*stream, *stream])
        sizes = {len(batch) for batch in parts[-1]}
        assert max(sizes) <= -(-batch_size // world)
    end = (start // 113 + 2) * 113
    assert interleaved(parts) == clean[start:end]


@given(world=st.integers(1, 5), start=st.integers(0, 300))
def test_without_batches_rank_r_takes_every_worldth_sample(
    make: Callable[..., ShardStream], world: int, start: int
) -> None:
    clean = global_order(make(), 3)
    begin = make().state_at(start)
    end = (start // 113 + 1) * 113
    for rank in range(world):
        stream = make(rank=rank, world_size=world)
        stream.load_state_dict(begin)
        assert list(stream) == clean[start:end][rank::world]
