"""Parameter groups and schedules in a run config: short forms, errors, the resolved config."""

import json

import pytest

from headrace.config import load_run_config
from headrace.errors import ConfigError

GROUPS = {
    "groups": [
        {"name": "words", "select": "embeddings", "freeze": True},
        {"name": "low", "select": {"layers": [0, 1]}, "lr_mult": 0.2},
        {"name": "top", "select": {"stack": "encoder", "layers": "-2:"}, "lr": 1},
        {"name": "norms", "select": {"regex": "\\.final_norm\\."}},
    ],
    "unmatched": "base",
}


@pytest.fixture
def load(small_corpus, tmp_path):
    def load(**changes):
        path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
        return load_run_config(path, thorough=False)

    return load


@pytest.mark.parametrize(
    "groups",
    [
        GROUPS,
        {"llrd": 0.9},
        {"distribution": [1e-6] * 9 + [1], "split": "paper-code", "rescale": True},
        {"distribution": "rates.json", "no_decay": []},
    ],
)
def test_the_resolved_config_loads_again_as_the_same(load, tmp_path, groups):
    stages = [{"name": "a", "param_groups": groups, "schedule": {"type": "wsd"}}]
    config = load(**{"headrace.param_groups": groups, "headrace.stages": stages})
    (tmp_path / "resolved.json").write_text(json.dumps(config.resolved()))
    again = load_run_config(tmp_path / "resolved.json", thorough=False)
    assert again.headrace == config.headrace


def test_a_config_without_groups_resolves_as_it_did_before_there_were_any(load):
    """A run folder of an earlier version goes on: keys that it lacks are null now."""
    section = load().resolved()["headrace"]
    assert section["param_groups"].pop("no_decay") == ["bias", "norm"]
    assert set(section["param_groups"].values()) == {None}
    known = {"type": "cosine", "warmup_ratio": 0.1, "warmup_steps": None, "final_ratio": 0.0}
    new = {key: value for key, value in section["schedule"].items() if key not in known}
    assert set(new.values()) == {None}
    assert section["stages"][0]["param_groups"] is None


@pytest.mark.parametrize(
    ("groups", "where", "what"),
    [
        ([{"name": "a", "select": "embedding"}], "select", "Did you mean 'embeddings'?"),
        ([{"name": "a", "select": 3}], "select", "must be a part"),
        ([{"name": "a", "select": {"layer": 1}}], "select.layer", "Did you mean 'layers'?"),
        ([{"name": "a", "select": {"layers": "1,2"}}], "select.layers", "must be layers such as"),
        ([{"name": "a", "select": {"layers": []}}], "select.layers", "must be layers such as"),
        ([{"name": "a", "select": "rest", "lr": 0}], "lr", "greater than 0"),
    ],
)
def test_mistakes_in_a_group_have_its_path(load, groups, where, what):
    with pytest.raises(ConfigError) as raised:
        load(**{"headrace.param_groups": {"groups": groups}})
    (problem,) = raised.value.problems
    assert problem.where == f"headrace.param_groups.groups.0.{where}"
    assert what in str(problem)


@pytest.mark.parametrize("rates", [[1e-5, 0], [1e-5, "x"], [True] * 10, ""])
def test_a_distribution_is_a_file_or_positive_numbers(load, rates):
    with pytest.raises(ConfigError, match=r"headrace\.param_groups\.distribution: .*file"):
        load(**{"headrace.param_groups": {"distribution": rates}})


def test_problems_of_all_sections_are_said_at_once(load):
    stages = [
        {"name": "a", "schedule": {"type": "restarts"}},
        {"name": "b", "learning_rate": 1e-3, "param_groups": {"distribution": "x.json"}},
    ]
    with pytest.raises(ConfigError) as raised:
        load(
            **{
                "headrace.schedule": {"type": "cosine", "cycles": 2},
                "headrace.param_groups": {"llrd": 0.9, "groups": GROUPS["groups"]},
                "headrace.stages": stages,
            }
        )
    assert [problem.where for problem in raised.value.problems] == [
        "headrace.schedule.cycles",
        "headrace.param_groups",
        "headrace.stages.0.schedule.cycles",
        "headrace.stages.1.learning_rate",
    ]
