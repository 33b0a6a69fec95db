"""Heads of sequence classification in a run config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.config import RunConfig, load_run_config
from headrace.config.task_sections import SequenceClassificationConfig
from headrace.errors import ConfigError

Load = Callable[..., RunConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``(heads, **task)``: a config with sources qnli, hau, ibo and sts."""

    def load_with(heads: Any, **task: Any) -> RunConfig:
        names = ["qnli", "hau", "ibo", "sts"]
        section = {"type": "sequence_classification", **task}
        if heads is not None:
            section["heads"] = heads
        config = {
            "train_batch_size": 32,
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
            "headrace": {
                "task": section,
                "model": {"pretrained": "somewhere"},
                "data": {
                    "train": {name: f"a/{name}" for name in names},
                    "validation": {name: f"b/{name}" for name in names},
                },
                "stages": [{"name": "first", "languages": ["qnli"]}],
            },
        }
        path = tmp_path / "run.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return load_run_config(path)

    return load_with


GOOD = {
    "nli": {"sources": ["qnli"], "labels": ["entailment", "not_entailment"]},
    "sentiment": {"sources": ["hau", "ibo"], "labels": "discover"},
    "similarity": {"sources": ["sts"], "labels": "score"},
}


def problems_of(call: Callable[[], object]) -> dict[str, tuple[str, str | None, str | None]]:
    with pytest.raises(ConfigError) as caught:
        call()
    return {p.where: (p.what, p.value, p.remedy) for p in caught.value.problems}


def test_heads_keep_their_order_in_a_resolved_config(load: Load, tmp_path: Path) -> None:
    config = load(GOOD)
    task = config.headrace.task
    assert isinstance(task, SequenceClassificationConfig)
    assert task.heads is not None
    assert list(task.heads) == list(GOOD)
    path = tmp_path / "again.json"
    path.write_text(json.dumps(config.resolved()), encoding="utf-8")
    again = load_run_config(path)
    assert again.resolved() == config.resolved()
    assert isinstance(again.headrace.task, SequenceClassificationConfig)
    assert list(again.headrace.task.heads or ()) == list(GOOD)


def test_without_heads_all_sources_share_one(load: Load) -> None:
    task = load(None, labels=["no", "yes"]).headrace.task
    assert isinstance(task, SequenceClassificationConfig)
    assert task.heads is None
    assert task.labels == ["no", "yes"]


def test_every_source_has_one_head(load: Load) -> None:
    found = problems_of(
        lambda: load(
            {
                "nli": {"sources": ["qnli", "sst"]},
                "sentiment": {"sources": ["hau", "qnli"]},
            }
        )
    )
    assert found["headrace.task.heads.nli.sources.1"][:2] == (
        "no training data has this name",
        "sst",
    )
    assert found["headrace.task.heads.nli.sources.1"][2] == "Did you mean 'sts'?"
    what = found["headrace.task.heads.sentiment.sources.1"][0]
    assert what == "the source belongs to head nli already"
    # two sources are in none: one place, the last of them
    assert found["headrace.task.heads"][:2] == ("the source belongs to no head", "sts")
    assert len(found) == 3


def test_there_has_to_be_a_head(load: Load) -> None:
    found = problems_of(lambda: load({}))
    assert found == {
        "headrace.task.heads": ("there is no head", "{}", "Name one, or leave the key out")
    }


@pytest.mark.parametrize("labels", ["scores", ["a"], [], ["a", " "], ["a", 1], 3, {"a": 1}])
def test_what_are_no_labels(load: Load, labels: Any) -> None:
    for where, call in (
        ("labels", lambda: load(None, labels=labels)),
        ("heads.nli.labels", lambda: load({"nli": {**GOOD["nli"], "labels": labels}})),
    ):
        (what, _, _) = problems_of(call)[f"headrace.task.{where}"]
        assert '"discover", "score", or a list of two or more names' in what


def test_a_label_that_stands_twice_is_named(load: Load) -> None:
    found = problems_of(lambda: load(None, labels=["a", "b", "a"]))
    assert found["headrace.task.labels"][0].endswith("a label stands twice: a")


def test_a_mistyped_key_of_a_head(load: Load) -> None:
    found = problems_of(lambda: load({"nli": {"sources": ["qnli"], "lables": "score"}}))
    assert found["headrace.task.heads.nli.lables"] == (
        "unknown key",
        None,
        "Did you mean 'labels'?",
    )
