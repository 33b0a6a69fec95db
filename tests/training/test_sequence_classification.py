"""Sequence classification from shards to answers: heads side by side, trained one by one."""

import json
import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from headrace.config import load_run_config
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages


@pytest.fixture(scope="module")
def steps(label_corpus, world, tmp_path_factory):
    """A run of two steps of the heads of labels, one stage a head."""
    folder = tmp_path_factory.mktemp("steps")
    stages = [
        {"name": "first", "languages": ["weather"], "max_steps": 2},
        {"name": "second", "languages": ["pairs"], "start_from": "first", "max_steps": 2,
         "keep_best": "last"},
    ]  # fmt: skip
    path = label_corpus.write_config(
        folder / "run.json", folder / "out", **{"headrace.stages": stages}
    )
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, StopFlag())
    return config


def test_each_stage_leaves_one_model_with_all_heads(steps):
    results = json.loads((steps.output / "results.json").read_text())["stages"]
    assert [list(entry["metrics"]) for entry in results] == [["weather"], ["pairs"]]
    for entry in results:
        (metrics,) = entry["metrics"].values()
        assert {"accuracy", "macro_f1", "matthews", "samples"} <= set(metrics)
        assert metrics["samples"] == 48
        assert 0 <= metrics["accuracy"] <= 1
        network = AutoModelForSequenceClassification.from_pretrained(
            steps.output / entry["stage"] / "all" / "export"
        )
        assert list(network.config.id2label.values()) == [
            "weather:kite", "weather:moon", "weather:rain", "weather:sun",
            "pairs:does not fit", "pairs:fits", "wetness",
        ]  # fmt: skip


def test_a_stage_trains_the_head_of_its_sources_alone(steps):
    """Without weight decay the rows of the other heads are as they were, to the bit."""
    states = [
        AutoModelForSequenceClassification.from_pretrained(
            steps.output / stage / "all" / "export"
        ).classifier.state_dict()
        for stage in ("first", "second")
    ]
    for name in ("weight", "bias"):
        first, second = (state[name] for state in states)
        assert torch.equal(first[:4], second[:4])
        assert torch.equal(first[6:], second[6:])
        assert not torch.equal(first[4:6], second[4:6])


def test_losses_are_finite(steps):
    lines = [json.loads(line) for line in (steps.output / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(losses) == 4
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
