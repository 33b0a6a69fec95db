"""The code of ``docs/dataset.md`` runs as it is written there."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from headrace.shards import Sample, ShardWriter
from headrace.stream import ShardStream

PAGE = Path(__file__).parents[2] / "docs" / "dataset.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, samples in (("en", 1500), ("hi", 400)):
        with ShardWriter(f"data/{name}", samples_per_shard=100, fields=("txt",)) as writer:
            for number in range(samples):
                writer.write(Sample(f"{name}-{number}", {"txt": f"{name} {number}".encode()}))


def open_again() -> ShardStream:
    return ShardStream({"en": "data/en", "hi": "data/hi"}, batch_size=32, fields="txt")


@pytest.mark.usefixtures("data")
def test_the_five_lines() -> None:
    assert len(BLOCKS[0].strip().splitlines()) == 5
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    assert names["stream"].epoch == 1
    assert names["texts"] == [text.decode() for text in list(open_again())[-1]]


@pytest.mark.usefixtures("data")
def test_all_blocks_in_turn() -> None:
    names: dict[str, Any] = {"ShardCache": None}
    epochs, state, loader, stateful, train, remote = BLOCKS[1:]
    clean = open_again()
    batches = [*clean, *clean, *clean]
    per_epoch = len(clean)

    exec(BLOCKS[0], names)
    exec(epochs, names)
    assert names["stream"].epoch == 3

    names["stream"] = open_again()
    exec(state, names)
    assert len(names["saved"]) < 1000
    rest = list(chain.from_iterable(names["resumed"]))
    assert rest == list(chain.from_iterable(batches[21:per_epoch]))

    exec(loader, names)
    again = open_again()
    again.load_state_dict(json.loads(json.dumps(names["saved"])))
    assert next(iter(again)) == batches[26]
    assert names["stream"].epoch == 1

    names["resumed"] = open_again()
    exec(stateful, names)
    assert list(names["again"]) == batches[per_epoch + 5 : 2 * per_epoch]

    names["stream"] = open_again()
    exec(train, names)
    model = torch.nn.Linear(1, 1)
    saved = []
    names["train"](
        model,
        torch.optim.SGD(model.parameters(), lr=1e-12),
        names["stream"],
        lambda batch: torch.tensor([[float(len(text))] for text in batch]),
        lambda weights, state: saved.append(state["next_position"]),
    )
    assert saved == [32, 1900 + 32]
    compile(remote, "docs/dataset.md", "exec")


def _train(rank: int, world: int, folder: str) -> None:
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
        )
    names: dict[str, Any] = {"torch": torch}
    exec(BLOCKS[5], names)
    torch.manual_seed(0)
    model: torch.nn.Module = torch.nn.Linear(2, 1, dtype=torch.float64)
    if world > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    stream = ShardStream({"hi": "data/hi"}, batch_size=7, fields="txt")
    assert (stream.rank, stream.world_size) == (rank, world)
    sizes = []

    def make_inputs(batch: list[bytes]) -> torch.Tensor:
        sizes.append(len(batch))
        numbers = [[int(text.split()[1]) / 400, len(text)] for text in batch]
        return torch.tensor(numbers, dtype=torch.float64)

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    names["train"](model, optimizer, stream, make_inputs, lambda *_: None)
    assert len(sizes) == 2 * len(stream)
    weights = [value.tolist() for value in model.state_dict().values()]
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(weights))


@pytest.mark.usefixtures("data")
def test_ranks_of_the_page_train_as_one_process_does(tmp_path: Path) -> None:
    # 400 samples in batches of 7: the last batch has one sample for four ranks.
    _train(0, 1, str(tmp_path))
    torch.multiprocessing.start_processes(_train, (4, str(tmp_path)), nprocs=4, start_method="fork")
    (weight,), (bias,) = json.loads((tmp_path / "1-0.json").read_text())
    for rank in range(4):
        (other,), (other_bias,) = json.loads((tmp_path / f"4-{rank}.json").read_text())
        assert other == pytest.approx(weight, rel=1e-12)
        assert other_bias == pytest.approx(bias, rel=1e-12)
