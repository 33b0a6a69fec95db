"""Runs that go on without damaged training shards."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.config import load_run_config
from headrace.errors import ConfigError, StopRequested, UserError
from headrace.training.data import encode_data, open_data, plan_batches
from headrace.training.distributed import free_port
from headrace.training.quarantine import read_quarantine
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

WORKER = Path(__file__).parent / "workers" / "agree_on_quarantine.py"

BATCHINGS = {
    "samples": {"window_batches": 4},
    "tokens": {"type": "tokens", "tokens_per_batch": 400, "window_batches": 4},
    "packed": {"type": "packed", "window_batches": 2},
}


@pytest.fixture
def write_config(small_corpus, tmp_path):
    """A run of one stage over sources of its own, of which English has four shards."""
    data = {}
    for name in small_corpus.languages:
        data[name] = str(tmp_path / name)
        shutil.copytree(small_corpus.source(name, "train"), data[name])

    def write(output, **changes):
        path = small_corpus.write_config(
            tmp_path / f"{output}.json",
            tmp_path / output,
            **{
                "headrace.data.train": data,
                "headrace.data.cache_dir": str(tmp_path / "encoded"),
                "headrace.data.bad_shards": "quarantine",
                "headrace.stages": [
                    {"name": "all", "max_steps": 20, "mixture": {"temperature": 0.5}}
                ],
                **changes,
            },
        )
        return load_run_config(path)

    return write


def shard(config, name):
    return Path(config.headrace.data.train["en"]) / name


def train(config, world, flag=None):
    train_in_group(config, expand_stages(config), world, flag or StopFlag())


def test_a_damaged_shard_is_refused_by_default(write_config, world, flip):
    config = write_config("out", **{"headrace.data.bad_shards": "refuse"})
    flip(shard(config, "shard-000002.tar"))
    with pytest.raises(UserError, match=r"shard-000002\.tar"):
        train(config, world)
    assert not config.output.exists()


def test_a_run_goes_on_without_a_damaged_shard_and_so_does_its_resume(
    write_config, world, read_losses, caplog, stop_after, flip
):
    config = write_config("uninterrupted")
    flip(shard(config, "shard-000002.tar"))
    train(config, world)
    assert "shard-000002.tar is left out" in caplog.text
    left_out = {"en": ["shard-000002.tar"], "hi": [], "zh": []}
    assert json.loads((config.output / "quarantine.json").read_text()) == left_out
    expected = read_losses(config.output)

    stopped = write_config("stopped")
    with pytest.raises(StopRequested):
        train(stopped, world, stop_after(8))
    assert 0 < len(read_losses(stopped.output)) < len(expected)
    # A shard that is repaired in between stays out for this run.
    flip(shard(config, "shard-000002.tar"))
    train(stopped, world)
    assert read_losses(stopped.output) == expected

    whole = write_config("whole")
    train(whole, world)
    assert not any(read_quarantine(whole.output).values())
    assert read_losses(whole.output) != expected


def test_another_damaged_shard_later_is_refused(write_config, world, stop_after, flip):
    config = write_config("out")
    flip(shard(config, "shard-000002.tar"))
    with pytest.raises(StopRequested):
        train(config, world, stop_after(4))
    shutil.rmtree(config.headrace.data.cache_dir)
    flip(shard(config, "shard-000000.tar"))
    with pytest.raises(UserError) as caught:
        train(config, world)
    (problem,) = caught.value.problems
    assert problem.where == "en/shard-000000.tar"
    assert "was started with" in problem.what


@pytest.mark.parametrize("kind", BATCHINGS)
def test_every_other_sample_keeps_its_place(write_config, kind):
    """Nothing of the shard is served, nothing else is lost, and no step has nothing to do."""
    config = write_config("out", **{"headrace.batching": BATCHINGS[kind]})
    opened = open_data(config)
    (branch,) = expand_stages(config)
    whole = encode_data(opened, config)
    part = replace(whole, train={**whole.train, "en": whole.train["en"].leaving_out([2])})
    plans = [plan_batches(config, branch, data) for data in (whole, part)]
    steps = [plan.steps_before(1) for plan in plans]
    assert steps[0] == steps[1] or kind != "samples"
    served = []
    for plan, count in zip(plans, steps, strict=True):
        found = []
        for step in range(count):
            batch = plan.batch(step)
            locations = getattr(batch, "samples", batch)
            assert len(locations)
            found += zip(
                locations.source.tolist(),
                locations.shard.tolist(),
                locations.sample.tolist(),
                strict=True,
            )
        served.append(sorted(found))
    assert served[1] == [location for location in served[0] if location[:2] != (0, 2)]
    assert len(served[1]) < len(served[0])


def test_a_damaged_list_is_refused(tmp_path):
    assert read_quarantine(tmp_path) is None
    for text in ("{", "[]", '{"en": "x.tar"}'):
        (tmp_path / "quarantine.json").write_text(text)
        with pytest.raises(ConfigError, match="list of left-out shards is damaged"):
            read_quarantine(tmp_path)


@pytest.mark.slow
def test_ranks_agree_on_all_that_any_of_them_could_not_read(write_config, tmp_path):
    config = write_config("out")
    config.output.mkdir()
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        subprocess.Popen(
            [sys.executable, WORKER, tmp_path / "out.json", tmp_path / f"{rank}.txt"],
            env={**environment, "RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.txt").read_text()) for rank in range(2))
    assert first == second
    assert first[0]["en"] == ["shard-000000.tar", "shard-000001.tar"]
    assert read_quarantine(config.output) == first[0]
