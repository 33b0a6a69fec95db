"""The stream in the workers of torch's DataLoader and torchdata's StatefulDataLoader."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from headrace.errors import ConfigError, ShardError
from headrace.shards import Sample, ShardWriter
from headrace.stream import ShardStream

EPOCH = 83
BATCH = 8
BATCHES = 11

MakeStream = Callable[..., ShardStream]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> MakeStream:
    folder = tmp_path_factory.mktemp("sources")
    for name, samples in (("en", 60), ("hi", 23)):
        with ShardWriter(str(folder / name), samples_per_shard=10, fields=("txt",)) as writer:
            for number in range(samples):
                writer.write(Sample(f"{name}-{number}", {"txt": f"{name} {number}".encode()}))

    def make_stream(**options: Any) -> ShardStream:
        return ShardStream(
            {name: str(folder / name) for name in ("en", "hi")},
            **{"fields": "txt", "temperature": 0.5, "batch_size": BATCH, **options},
        )

    return make_stream


def epochs(loader: Any, count: int) -> list[list[Any]]:
    return [list(loader) for _ in range(count)]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [BATCH, None])
def test_workers_change_nothing_over_several_epochs(
    make: MakeStream, workers: int, persistent: bool, batch_size: int | None
) -> None:
    stream = make(batch_size=batch_size, rank=1, world_size=2)
    clean = epochs(make(batch_size=batch_size, rank=1, world_size=2), 3)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, persistent_workers=persistent)
    assert len(loader) == len(clean[0])
    assert epochs(loader, 3) == clean
    assert stream.epoch == 3
    assert stream.state_dict()["next_position"] == 3 * EPOCH


def test_more_workers_than_batches(make: MakeStream) -> None:
    loader = DataLoader(make(batch_size=50), batch_size=None, num_workers=3)
    assert epochs(loader, 2) == epochs(make(batch_size=50), 2)


def test_a_spawned_worker_is_like_a_forked_one(make: MakeStream) -> None:
    stream = make()
    stream.set_epoch(1)
    loader = DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert list(loader) == epochs(make(), 2)[1]
    assert stream.epoch == 2


@pytest.mark.parametrize("persistent", [False, True])
def test_moves_of_the_main_process_reach_its_workers(make: MakeStream, persistent: bool) -> None:
    clean = epochs(make(), 4)
    stream = make()
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=persistent)
    stream.set_epoch(2)
    assert list(loader) == clean[2]
    assert list(loader) == clean[3]
    stream.set_epoch(0)
    assert list(loader) == clean[0]
    stream.load_state_dict(stream.state_at(BATCHES + 4))
    assert list(loader) == clean[1][4:]
    assert list(loader) == clean[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_counted_state_resumes_with_any_number_of_workers(make: MakeStream, workers: int) -> None:
    clean = list(chain.from_iterable(epochs(make(), 3)))
    stream = make()
    start = stream.state_dict()
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    seen = list(islice(chain(loader, loader), BATCHES + 3))
    state = stream.state_at(len(seen), start)
    for others in (0, 1, 3):
        again = make()
        again.load_state_dict(state)
        rest = DataLoader(again, batch_size=None, num_workers=others)
        assert seen + list(rest) + list(rest) == clean


def test_an_iteration_that_was_broken_off_needs_a_place_to_go_on(make: MakeStream) -> None:
    clean = list(make())
    stream = make()
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    assert list(islice(loader, 2)) == clean[:2]
    with pytest.raises(ConfigError, match="broken off"):
        list(loader)
    stream.load_state_dict(stream.state_at(2))
    assert list(loader) == clean[2:]
    # Left to the garbage collector, a loader that has raised ends its workers by time-outs.
    loader._iterator._shutdown_workers()  # type: ignore[union-attr]


def test_new_workers_begin_where_those_of_a_broken_loop_began(make: MakeStream) -> None:
    clean = list(make())
    stream = make()
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    assert list(islice(loader, 2)) == clean[:2]
    assert list(loader) == clean
    assert stream.epoch == 1


def _kill_a_worker_of(batches: Any) -> None:
    os.kill(batches._workers[1].pid, signal.SIGKILL)
    list(batches)


def test_a_worker_that_is_killed_ends_the_loop_and_another_run_goes_on(make: MakeStream) -> None:
    clean = list(chain.from_iterable(epochs(make(), 2)))
    seen: list[Any] = []
    for _ in range(2):
        stream = make()
        stream.load_state_dict(stream.state_at(len(seen)))
        loader = DataLoader(stream, batch_size=None, num_workers=2)
        batches = iter(loader)
        seen += islice(batches, 2)
        with pytest.raises(RuntimeError, match="worker"):
            _kill_a_worker_of(batches)
    stream = make()
    stream.load_state_dict(stream.state_at(len(seen)))
    assert seen + [*stream, *stream][: len(clean) - len(seen)] == clean


def test_the_loader_may_make_the_batches(make: MakeStream) -> None:
    stream = make(batch_size=None)
    for workers in (0, 2):
        loader = DataLoader(make(batch_size=None), batch_size=5, num_workers=workers)
        assert sorted(chain.from_iterable(loader)) == sorted(stream)
        stream.set_epoch(0)


# StatefulDataLoader

CLEAN: dict[int | None, list[Any]] = {}


@pytest.mark.parametrize("workers", [0, 1, 2])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.integers(0, 2 * BATCHES + 1),
    second=st.integers(0, BATCHES + 1),
    batch_size=st.sampled_from([BATCH, None]),
    persistent=st.booleans(),
)
def test_a_stateful_loader_resumes_twice_after_any_number_of_batches(
    make: MakeStream,
    workers: int,
    first: int,
    second: int,
    batch_size: int | None,
    persistent: bool,
) -> None:
    per_epoch = BATCHES if batch_size else EPOCH
    if not batch_size:
        first, second = 7 * first, 7 * second
    clean = CLEAN.setdefault(
        batch_size, list(chain.from_iterable(epochs(make(batch_size=batch_size), 6)))
    )
    seen: list[Any] = []
    state = None
    for stop in (first, second, 2 * per_epoch):
        loader = StatefulDataLoader(
            make(batch_size=batch_size),
            batch_size=None,
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
        )
        if state is not None:
            loader.load_state_dict(state)
        items = chain.from_iterable(iter(loader) for _ in range(4))
        seen += list(islice(items, stop))
        state = json.loads(json.dumps(loader.state_dict()))
    assert seen == clean[: len(seen)]
    assert len(seen) == first + second + 2 * per_epoch


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_that_has_ended_an_epoch_resumes_with_the_next(
    make: MakeStream, workers: int, persistent: bool
) -> None:
    clean = epochs(make(), 4)
    options = {"num_workers": workers, "persistent_workers": persistent and workers > 0}
    loader = StatefulDataLoader(make(), batch_size=None, **options)
    assert epochs(loader, 2) == clean[:2]
    again = StatefulDataLoader(make(), batch_size=None, **options)
    again.load_state_dict(loader.state_dict())
    assert epochs(again, 2) == clean[2:]


def test_the_states_of_workers_are_small_and_taking_one_at_each_batch_costs_little(
    make: MakeStream,
) -> None:
    loader = StatefulDataLoader(make(), batch_size=None, num_workers=2)
    sizes = [len(json.dumps(loader.state_dict())) for _ in loader]
    assert max(sizes) < 4000


def test_the_state_of_a_worker_is_not_that_of_the_stream(make: MakeStream) -> None:
    loader = StatefulDataLoader(make(), batch_size=None, num_workers=2)
    next(iter(loader))
    snapshots = loader.state_dict()["_snapshot"]["_worker_snapshots"]
    state = snapshots["worker_0"]["dataset_state"]
    with pytest.raises(ConfigError, match="worker 0 of 2"):
        make().load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_shards_in_workers(tmp_path: Path, workers: int) -> None:
    with ShardWriter(str(tmp_path), samples_per_shard=10, fields=("txt",)) as writer:
        for number in range(60):
            writer.write(Sample(f"{number}", {"txt": f"{number}".encode()}))
    tar = tmp_path / "shard-000003.tar"
    tar.write_bytes(tar.read_bytes().replace(b"33", b"34"))
    refusing = ShardStream({"en": str(tmp_path)}, batch_size=6)
    with pytest.raises(ShardError, match=r"shard-000003\.tar.*corrupt"):
        list(DataLoader(refusing, batch_size=None, num_workers=workers))
    stream = ShardStream({"en": str(tmp_path)}, batch_size=6, bad_shards="quarantine")
    loader = StatefulDataLoader(stream, batch_size=None, num_workers=workers)
    samples = list(chain.from_iterable(loader))
    assert [sample.key for sample in samples if sample.key[:1] == "3" and len(sample.key) > 1] == []
    assert len(samples) == 50
    assert "shard-000003.tar" in json.dumps(loader.state_dict())


def test_tensors_can_be_made_in_the_workers(make: MakeStream) -> None:
    def collate(texts: list[bytes]) -> torch.Tensor:
        return torch.tensor([len(text) for text in texts])

    loader = DataLoader(make(), batch_size=None, num_workers=2, collate_fn=collate)
    for lengths, texts in zip(loader, make(), strict=True):
        assert lengths.tolist() == [len(text) for text in texts]
