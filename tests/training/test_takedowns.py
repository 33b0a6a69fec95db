"""What a run knows of removed documents: noticed, written down, and never taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from headrace.errors import ConfigError
from headrace.shards import ShardReader, ShardWriter
from headrace.shards.sample import make_sample
from headrace.shards.tombstones import Removed, add_tombstones
from headrace.training import takedowns
from headrace.training.distributed import World
from headrace.training.takedowns import Takedowns, read_removed

ALONE = World(rank=0, size=1, device=torch.device("cpu"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    with ShardWriter(str(tmp_path / "en")) as writer:
        for number in range(4):
            writer.write(make_sample(f"s{number}", "text", {}))
    return str(tmp_path / "en")


def remove(url: str, number: int) -> None:
    add_tombstones(url, [Removed("shard-000000.tar", number, f"s{number}")])


def test_a_run_notices_what_is_removed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takedowns, "_LOOK_SECONDS", 0.0)
    known = Takedowns({"en": ShardReader(url)}, None, ALONE)
    other = Takedowns({"en": ShardReader(url)}, None, World(1, 2, torch.device("cpu")))
    assert not known.look()
    remove(url, 1)
    assert known.look()
    assert not other.look(), "the main rank looks for all"


def test_older_tombstones_than_those_of_a_checkpoint_are_refused(url: str) -> None:
    before = Takedowns({"en": ShardReader(url)}, None, ALONE)
    remove(url, 1)
    now = Takedowns({"en": ShardReader(url)}, None, ALONE)
    now.check(before.epochs, "checkpoint")
    with pytest.raises(ConfigError, match="are back"):
        before.check(now.epochs, "checkpoint")


def test_from_which_step_on_tombstones_held(url: str, tmp_path: Path) -> None:
    path = tmp_path / "removed.jsonl"
    Takedowns({"en": ShardReader(url)}, path, ALONE).start(0)
    assert not path.exists(), "nothing was removed"
    for step, number in ((10, 1), (20, 2)):
        remove(url, number)
        Takedowns({"en": ShardReader(url)}, path, ALONE).start(step)
    Takedowns({"en": ShardReader(url)}, path, ALONE).start(30)
    lines = [{"step": 10, "epochs": {"en": 1}}, {"step": 20, "epochs": {"en": 2}}]
    assert read_removed(path) == lines
    # It was killed and went back to a checkpoint from before: that step comes again, without both.
    Takedowns({"en": ShardReader(url)}, path, ALONE).start(15)
    assert read_removed(path) == [lines[0], {"step": 15, "epochs": {"en": 2}}]
    path.write_text(json.dumps({"step": 1}) + "\n")
    with pytest.raises(ConfigError, match="damaged"):
        read_removed(path)
