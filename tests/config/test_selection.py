"""The section that chooses samples: what is wrong is found before anything is read."""

import json
from dataclasses import asdict
from typing import get_args

import pytest

from headrace.config import load_run_config
from headrace.config.schema import (
    Doc2VecConfig,
    GraphCutHingeConfig,
    NeighboursConfig,
    ObjectiveConfig,
    SelectionConfig,
    SelectionMethod,
)
from headrace.errors import ConfigError
from headrace.selection import IndexSettings, Limits
from headrace.selection.chosen import OBJECTIVES, Method
from headrace.selection.doc2vec import Doc2VecSettings
from headrace.selection.hinge import Hinge
from headrace.selection.job import SelectionJob
from headrace.selection.selection import DEFAULT_TRADE_OFF

EMBEDDING = {"model": "models/minilm"}


@pytest.fixture
def load(small_corpus, tmp_path):
    def load(section, **changes):
        path = tmp_path / "run.json"
        changes = {"headrace.selection": section, **changes}
        return load_run_config(small_corpus.write_config(path, tmp_path / "run", **changes))

    return load


def refused(load, section, **changes):
    with pytest.raises(ConfigError) as caught:
        load(section, **changes)
    return [str(problem) for problem in caught.value.problems]


def test_a_section_comes_back_from_what_a_run_writes_down(load, tmp_path):
    config = load({
        "fraction": 0.1, "embedding": EMBEDDING, "objective": {"graph_cut": {"lambda": "balanced"}}
    })  # fmt: skip
    assert config.headrace.selection.objective.graph_cut.trade_off == "balanced"
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.resolved()))
    assert '"lambda": "balanced"' in path.read_text()
    assert load_run_config(path).headrace == config.headrace.model_copy(
        update={"output": str(config.output)}
    )


def test_what_belongs_to_another_method_is_refused(load):
    odd = {"parts": 3, "sample_rows": 9, "warm_passes": 1, "seed": 2}
    section = {"rows": 5, "embedding": EMBEDDING}
    problems = refused(load, {**section, **odd})
    assert [problem.split(":")[0] for problem in problems] == [
        f"headrace.selection.{key}" for key in odd
    ]
    assert "this has a meaning only with one_pass (value: 9). Remove it" in problems[1]
    assert load({**section, "method": "one_pass", "sample_rows": 9, "seed": 2})
    assert load({"rows": 5, "embedding": {"doc2vec": {}}, "seed": 2})


def test_the_default_is_the_objective_of_the_paper(load):
    section = load({"rows": 5, "embedding": EMBEDDING}).headrace.selection
    assert section.objective.graph_cut.trade_off == 10
    assert section.objective.facility_location is None
    assert section.objective.graph_cut_hinge is None


def test_methods_and_objectives_are_those_of_selections():
    """The config knows them without what they need."""
    assert set(get_args(SelectionMethod)) == set(get_args(Method))
    assert set(ObjectiveConfig.model_fields) == set(OBJECTIVES)
    fields = {name: field.default for name, field in NeighboursConfig.model_fields.items()}
    assert {"kind" if name == "index" else name: value for name, value in fields.items()} == asdict(
        IndexSettings()
    )
    assert Doc2VecConfig().model_dump() == {
        name: value for name, value in asdict(Doc2VecSettings()).items() if name != "seed"
    }
    hinge = GraphCutHingeConfig()
    assert Hinge(hinge.threshold, hinge.penalty) == Hinge()
    assert hinge.trade_off == DEFAULT_TRADE_OFF
    section, job = SelectionConfig.model_fields, SelectionJob("", Limits())
    for name in ("parts", "sample_rows", "warm_passes", "duplicate_cosine", "seed"):
        assert section[name].default == getattr(job, name), name
    assert section["cache_dir"].default == job.cache


def test_all_mistakes_are_told_at_once(load):
    section = {
        "rows": 10,
        "fraction": 0.5,
        "minimum": {"en": 2, "xx": 1},
        "embedding": {"doc2vec": {}, "max_length": 12},
        "objective": {"graph_cut": {}, "facility_location": {}},
    }
    problems = refused(load, section, **{"headrace.data.selection": "data/selected"})
    assert [problem.split(": ")[0] for problem in problems] == [
        "headrace.data.selection",
        "headrace.selection",
        "headrace.selection.minimum.xx",
        "headrace.selection.embedding.max_length",
        "headrace.selection.objective",
    ]
    assert "rows, fraction" in problems[1]


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ({"fraction": 1.5}, "headrace.selection.fraction"),
        ({"rows": 0}, "headrace.selection.rows"),
        ({"fraction": 0.5, "minimum": {"en": -1}}, "headrace.selection.minimum.en"),
        ({"fraction": 0.5, "embedding": {}}, "headrace.selection.embedding"),
        ({"fraction": 0.5, "embedding": {"ids": "x", **EMBEDDING}},
         "headrace.selection.embedding.ids"),
        ({"fraction": 0.5, "objective": {}}, "headrace.selection.objective"),
        ({"fraction": 0.5, "objective": {"graph_cut": {"lambda": -1}}},
         "headrace.selection.objective.graph_cut.lambda"),
        ({"fraction": 0.5, "objective": {"graph_cut": {"lambda": True}}},
         "headrace.selection.objective.graph_cut.lambda"),
        ({"fraction": 0.5, "objective": {"graph_cut": {"lamda": 1}}},
         "headrace.selection.objective.graph_cut.lamda"),
        ({"fraction": 0.5, "cache_dir": "s3://bucket/x"}, "headrace.selection.cache_dir"),
    ],
)  # fmt: skip
def test_one_mistake_is_told_at_its_place(load, section, where):
    (problem,) = refused(load, {"embedding": EMBEDDING, **section})
    assert problem.startswith(f"{where}: ")


def test_a_key_that_is_nearly_right_is_suggested(load):
    section = {"rows": 5, "embedding": EMBEDDING, "objective": {"graph_cut": {"lamda": 1}}}
    (problem,) = refused(load, section)
    assert "Did you mean 'lambda'?" in problem


def test_groups_that_are_no_languages_may_have_any_name(load):
    section = {"rows": 5, "embedding": EMBEDDING, "group_by": "subset", "minimum": {"news": 2}}
    assert load(section).headrace.selection.minimum == {"news": 2}
