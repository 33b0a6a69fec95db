"""``ShardStream(selection=...)``: the chosen samples alone, in one order for all."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from headrace.cli import main
from headrace.errors import ConfigError, SelectionError
from headrace.shards import Sample, ShardWriter
from headrace.stream import ShardStream

SIZES = {"en": 90, "hi": 40}
MakeStream = Callable[..., ShardStream]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    for name, size in SIZES.items():
        with ShardWriter(str(folder / name), samples_per_shard=10, fields=("txt",)) as writer:
            for number in range(size):
                writer.write(Sample(f"{number:03}", {"txt": f"{name}/{number:03}".encode()}))
    return {name: str(folder / name) for name in SIZES}


@pytest.fixture(scope="module")
def select(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def run(*options: str) -> Path:
        """Choose with the real command; few of the chosen ones are in the first shards."""
        folder = tmp_path_factory.mktemp("selection")
        ids = [f"{name}/{number:03}" for name, size in SIZES.items() for number in range(size)]
        vectors = np.random.default_rng(2).standard_normal((len(ids), 6)) + 0.8
        np.save(folder / "v.npy", vectors * np.where(np.arange(len(ids)) < 20, -1, 1)[:, None])
        (folder / "ids.txt").write_text("\n".join(ids))
        files = ["--vectors", str(folder / "v.npy"), "--ids", str(folder / "ids.txt")]
        assert main(["select", *files, *options, "--output", str(folder / "out")]) == 0
        return folder / "out"

    return run


@pytest.fixture(scope="module")
def selected(select: Callable[..., Path]) -> Path:
    return select("--rows", "37", "--minimum", "hi=9")


@pytest.fixture(scope="module")
def make(urls: dict[str, str], selected: Path) -> MakeStream:
    def stream(**settings: Any) -> ShardStream:
        return ShardStream(urls, **{"fields": "txt", "seed": 3, "selection": selected, **settings})

    return stream


def ids_of(folder: Path) -> list[bytes]:
    ids = pyarrow.parquet.read_table(folder / "selection.parquet")["id"].to_pylist()
    return [name.encode() for name in ids]


def test_each_epoch_has_each_chosen_sample_once(make: MakeStream, selected: Path) -> None:
    stream = make()
    first, second = list(stream), list(stream)
    assert sorted(first) == sorted(second) == sorted(ids_of(selected))
    assert first != second
    assert len(stream) == stream.plan.samples_per_epoch == 37


def test_whole_samples_and_the_mixture_are_those_of_the_chosen(
    make: MakeStream, selected: Path
) -> None:
    count = Counter(text[:2] for text in ids_of(selected))
    even = Counter(text[:2] for text in make(temperature=0.0))
    assert abs(even[b"en"] - even[b"hi"]) <= 1
    assert count[b"en"] > count[b"hi"]
    samples = list(make(fields=None))
    assert {sample.fields["txt"].decode().split("/")[1] for sample in samples} == {
        sample.key for sample in samples
    }


@settings(max_examples=25)
@given(world=st.integers(1, 5), batch=st.integers(1, 40), done=st.integers(0, 80))
def test_ranks_together_make_one_order_from_any_state(
    make: MakeStream, world: int, batch: int, done: int
) -> None:
    one = make(rank=0, world_size=1)
    begin = one.state_at(done)
    one.load_state_dict(begin)
    parts = []
    for rank in range(world):
        stream = make(rank=rank, world_size=world, batch_size=batch)
        stream.load_state_dict(begin)
        parts.append([*stream, *stream])
    whole = []
    for batches in zip(*parts, strict=True):
        size = sum(map(len, batches))
        whole += [batches[number % world][number // world] for number in range(size)]
    assert whole == [*one, *one]


def flat(batches: Iterable[list[bytes]]) -> list[bytes]:
    return list(chain.from_iterable(batches))


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_change_nothing(make: MakeStream, context: str) -> None:
    loader = DataLoader(
        make(batch_size=5), batch_size=None, num_workers=2, multiprocessing_context=context
    )
    assert flat(loader) == flat(make(batch_size=5))


def test_a_pickled_stream_needs_the_folder_no_more(
    make: MakeStream, selected: Path, tmp_path: Path
) -> None:
    shutil.copytree(selected, tmp_path / "copy")
    stream = pickle.dumps(make(selection=str(tmp_path / "copy")))
    shutil.rmtree(tmp_path / "copy")
    assert list(pickle.loads(stream)) == list(make())


def test_a_state_of_another_selection_is_refused(
    make: MakeStream, select: Callable[..., Path]
) -> None:
    state = json.loads(json.dumps(make().state_at(11)))
    again = make()
    again.load_state_dict(state)
    assert list(again) == list(make())[11:]
    for other in (select("--rows", "38", "--minimum", "hi=9"), None):
        with pytest.raises(ConfigError, match="changed since"):
            make(selection=other).load_state_dict(state)


def test_a_damaged_shard_is_left_out_of_the_chosen(
    urls: dict[str, str], selected: Path, make: MakeStream, tmp_path: Path
) -> None:
    folder = tmp_path / "en"
    shutil.copytree(urls["en"], folder)
    tar = sorted(folder.glob("*.tar"))[5]
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)
    sources = {"en": str(folder), "hi": urls["hi"]}
    stream = ShardStream(
        sources, fields="txt", seed=3, selection=selected, bad_shards="quarantine", rank=0,
        world_size=1,
    )  # fmt: skip
    clean = make(rank=0, world_size=1)
    epochs = [list(clean) for _ in range(2)]
    left = [[name for name in e if not b"en/050" <= name < b"en/060"] for e in epochs]
    assert len(left[0]) < 37
    assert list(stream) == left[0]
    assert list(stream) == left[1]
    assert stream.quarantined == (f"en/{tar.name}",)


def test_what_is_wrong_is_named_by_the_argument(
    urls: dict[str, str], selected: Path, tmp_path: Path
) -> None:
    with pytest.raises(SelectionError, match="selection: no such folder"):
        ShardStream(urls, selection=tmp_path / "nowhere")
    with pytest.raises(SelectionError, match=r"does not have \(value: hi .*Add them to sources"):
        ShardStream({"en": urls["en"]}, selection=selected)
    shutil.copytree(selected, tmp_path / "bad")
    rows = tmp_path / "bad" / "selection.parquet"
    rows.write_bytes(rows.read_bytes()[:-9])
    with pytest.raises(SelectionError, match="the selection is damaged"):
        ShardStream(urls, selection=tmp_path / "bad")
