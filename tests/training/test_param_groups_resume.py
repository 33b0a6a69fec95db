"""A stopped run whose file of learning rates has changed does not go on with other rates."""

import json

import pytest

from headrace.config import load_run_config
from headrace.errors import HeadraceError, StopRequested
from headrace.training.run import train_in_group
from headrace.training.stages import expand_stages


@pytest.fixture
def go(small_corpus, tmp_path, world, stop_after):
    def go(rate, steps):
        """Train with a head of this rate, for so many steps at most."""
        groups = [
            {"name": "head", "select": "head", "lr": rate},
            {"name": "others", "select": "rest", "lr": 1e-4},
        ]
        rates = {"version": 1, "layers": {"encoder": 2}, "groups": groups}
        (tmp_path / "rates.json").write_text(json.dumps(rates))
        path = small_corpus.write_config(
            tmp_path / "run.json",
            tmp_path / "run",
            **{
                "headrace.param_groups": {"distribution": str(tmp_path / "rates.json")},
                "headrace.stages": [{"name": "one", "epochs": 1, "max_steps": 6}],
            },
        )
        config = load_run_config(path)
        train_in_group(config, expand_stages(config), world, stop_after(steps))

    return go


def test_other_rates_than_those_of_the_checkpoint_are_noticed(go, tmp_path):
    with pytest.raises(StopRequested):
        go(1e-3, 3)
    with pytest.raises(HeadraceError, match=r"'head' has base_lr 0\.001, the config says 0\.002"):
        go(2e-3, 100)
    go(1e-3, 100)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if record["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
