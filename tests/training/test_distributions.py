"""Distributions of learning rates: the paper's splits, other depths, files."""

import json
import math

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.learning_rates import ParamGroupsConfig, ScheduleConfig, SelectConfig
from headrace.errors import ConfigError
from headrace.training.distributions import (
    DistributedRate,
    Distribution,
    groups_of_distribution,
    paper_distribution,
    read_distribution,
    write_distribution,
)
from headrace.training.layers import Layout
from headrace.training.param_groups import Settings, make_groups

WHERE = "headrace.param_groups.distribution"
TEN = [3.3e-6, 4.4e-6, 9.2e-7, 1.9e-6, 2.8e-6, 2.1e-6, 3.2e-6, 3.7e-6, 3.1e-6, 1.1e-5]
LAYERS_OF = {
    "paper-text": [1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8],
    "paper-code": [1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8],
}
"""Which of the ten numbers each of 12 layers has."""


def network(layers, kind="bert"):
    settings = {
        "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": layers,
        "num_attention_heads": 2, "intermediate_size": 16,
    }  # fmt: skip
    with torch.device("meta"):
        return transformers.AutoModelForMultipleChoice.from_config(
            transformers.AutoConfig.for_model(kind, **settings)
        )


def layer_rates(model, **settings):
    """Learning rates of the embeddings, of each layer, and of the rest (pooler and head)."""
    section = ParamGroupsConfig.model_validate_json(json.dumps(settings))
    base = Settings(1.0, 0.01, ScheduleConfig())
    found = {}
    for row in make_groups(model, section, base, "headrace.param_groups").rows:
        for name in row.parameters:
            key = "rest"
            if ".embeddings." in name:
                key = "embeddings"
            elif ".layer." in name:
                key = int(name.split(".layer.")[1].split(".")[0])
            assert found.setdefault(key, row.settings.learning_rate) == row.settings.learning_rate
    rest, embeddings = found.pop("rest"), found.pop("embeddings")
    return [embeddings, *(found[number] for number in range(len(found))), rest]


@pytest.mark.parametrize("split", LAYERS_OF)
def test_the_splits_of_the_paper(split):
    found = layer_rates(network(12), distribution=TEN, split=split)
    assert found == [TEN[0], *(TEN[number] for number in LAYERS_OF[split]), TEN[9]]


def test_another_depth_is_refused_unless_it_is_asked_for():
    settings = {"distribution": TEN, "split": "paper-code"}
    with pytest.raises(ConfigError, match=r"distribution: .*encoder 12.*encoder 6.*rescale"):
        layer_rates(network(6), **settings)
    found = layer_rates(network(6), **settings, rescale=True)
    assert (found[0], found[-1]) == (TEN[0], TEN[9])
    # layer n of 6 lies between the layers 2n and 2n + 1 of 12, in the middle
    twelve = [TEN[number] for number in LAYERS_OF["paper-code"]]
    assert found[1:-1] == pytest.approx(
        [math.sqrt(twelve[2 * n] * twelve[2 * n + 1]) for n in range(6)]
    )


@given(st.lists(st.floats(1e-7, 1e-3), min_size=10, max_size=10), st.integers(1, 40))
def test_rescaled_rates_stay_within_the_given_ones_and_keep_the_order(rates, depth):
    distribution = paper_distribution(sorted(rates), "paper-text")
    groups = groups_of_distribution(
        distribution, Layout({"h": depth}, {}), rescale=True, where=WHERE
    )
    middle = [group.lr for group in groups[1:-1]]
    if depth != 12:
        assert len(middle) == depth
    assert min(rates) * (1 - 1e-9) <= min(middle) <= max(middle) <= max(rates) * (1 + 1e-9)
    assert all(np.diff(middle) >= -1e-12)


def test_a_flat_distribution_is_flat_at_any_depth():
    found = layer_rates(network(7), distribution=[1e-5] * 10, split="paper-text", rescale=True)
    assert found == pytest.approx([1e-5] * 9)


@pytest.fixture
def distribution():
    return Distribution(
        model_type="bert",
        layers={"encoder": 4},
        groups=[
            DistributedRate(
                name="embeddings", select=SelectConfig(part="embeddings"), lr=1e-6,
                interval=[5e-7, 2e-6],
            ),
            DistributedRate(name="low", select=SelectConfig(layers="0-1"), lr=2e-6),
            DistributedRate(
                name="top", select=SelectConfig(layers="-2:", stack="encoder"), lr=4e-6
            ),
            DistributedRate(name="rest", select=SelectConfig(part="rest"), lr=1e-5),
        ],
        study="two tasks, 50 trials",
        seeds=[1, 2, 3],
    )  # fmt: skip


def test_a_file_gives_back_what_was_written(distribution, tmp_path):
    path = tmp_path / "new" / "rates.json"
    write_distribution(path, distribution)
    assert read_distribution(path, WHERE) == distribution
    assert [file.name for file in path.parent.iterdir()] == ["rates.json"]
    found = layer_rates(network(4), distribution=str(path))
    assert found == [1e-6, 2e-6, 2e-6, 4e-6, 4e-6, 1e-5]
    found = layer_rates(network(2), distribution=str(path), rescale=True)
    assert found == pytest.approx([1e-6, 2e-6, 4e-6, 1e-5])


def test_people_may_write_files_in_the_short_form(tmp_path):
    path = tmp_path / "rates.json"
    groups = [
        {"name": "words", "select": "embeddings", "lr": 1e-6},
        {"name": "others", "select": "rest", "lr": 1e-5},
    ]
    path.write_text(json.dumps({"version": 1, "layers": {"any": 3}, "groups": groups}))
    assert layer_rates(network(3), distribution=str(path)) == [1e-6, *[1e-5] * 4]


def test_other_stacks_are_refused(distribution):
    layout = Layout({"encoder": 4, "decoder": 4}, {})
    with pytest.raises(ConfigError, match="Give one with the same stacks"):
        groups_of_distribution(distribution, layout, rescale=True, where=WHERE)


def test_everything_that_is_wrong_with_a_file_is_said(distribution, tmp_path):
    path = tmp_path / "rates.json"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_distribution(path, WHERE)
    path.write_text("{")
    with pytest.raises(ConfigError, match="the file: Invalid JSON"):
        read_distribution(path, WHERE)
    record = json.loads(distribution.model_dump_json())
    record["groups"][1]["lr"] = -1
    record["groups"][0]["select"] = "embedings"
    record["sedes"] = 1
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError) as raised:
        read_distribution(path, WHERE)
    text = str(raised.value)
    assert {problem.where for problem in raised.value.problems} == {WHERE}
    for part in ("groups.1.lr", "Did you mean 'embeddings'?", "sedes"):
        assert part in text


def test_layers_outside_the_stacks_of_a_file_are_refused(distribution, tmp_path):
    path = tmp_path / "rates.json"
    record = json.loads(distribution.model_dump_json())
    record["groups"][1]["select"] = {"layers": "3-7"}
    record["groups"][2] = {"name": "low", "select": {"stack": "decoder"}, "lr": 1.0}
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError) as raised:
        read_distribution(path, WHERE)
    assert [problem.what.split(": ", 1)[1] for problem in raised.value.problems] == [
        "groups.1.select: there is no layer 4, the stack has 4 (from 0)",
        "groups.2.select: no such stack: decoder",
        "two groups have the same name",
    ]
