from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from headrace.stream.batching import BatchPlan
from headrace.stream.plan import Locations, Source, StagePlan


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., StagePlan]:
    def make(shard_sizes: Sequence[Sequence[int]], **settings: object) -> StagePlan:
        sources = [
            Source(f"l{number}", f"memory://source-{number}", tuple(sizes), f"f{number}")
            for number, sizes in enumerate(shard_sizes)
        ]
        return StagePlan(sources, **{"seed": 17, "stage": "s", **settings})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_batches() -> Callable[..., BatchPlan]:
    def make(plan: StagePlan, *, batch_size: int, **settings: object) -> BatchPlan:
        random = np.random.default_rng(0)
        lengths = [
            [random.integers(3, 92, size).astype(np.int32) for size in source.shard_sizes]
            for source in plan.sources
        ]
        return BatchPlan(plan, lengths, batch_size=batch_size, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def triples() -> Callable[[Locations], list[tuple[int, int, int]]]:
    def convert(locations: Locations) -> list[tuple[int, int, int]]:
        return list(
            zip(
                locations.source.tolist(),
                locations.shard.tolist(),
                locations.sample.tolist(),
                strict=True,
            )
        )

    return convert
