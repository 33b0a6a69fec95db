"""The order of a branch, as its config says."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from headrace.config.learning_rates import ScheduleConfig
from headrace.config.schema import MixtureConfig, StageConfig
from headrace.errors import ConfigError
from headrace.stream.plan import Source
from headrace.training.order import check_enough, plan_branch
from headrace.training.stages import Branch

SOURCES = [Source("en", "a", (600,), "f"), Source("hi", "b", (300,), "g")]


def branch_of(mixture, **stage):
    settings = {"name": "all", "mixture": MixtureConfig.model_validate_json(mixture), **stage}
    return Branch(
        StageConfig(**settings), "all", ("en", "hi"), Path("out"), None, 1e-3, ScheduleConfig()
    )


def test_the_config_reaches_the_plan():
    mixture = """{
        "temperature": 0, "max_share": {"en": 0.25}, "max_epochs": 2,
        "phases": [{"from_epoch": 0.3, "weights": {"en": 1}, "max_share": 1},
                   {"from_epoch": 0.7, "temperature": 1}]
    }"""
    plan = plan_branch(branch_of(mixture), SOURCES, 3)
    segments = plan.stage_mixture.segments
    # 0.3 of 900 samples is 270, although 0.3 * 900 is less for a computer.
    assert [segment.start for segment in segments[:3]] == [0, 270, 630]
    shares = [plan.shares_at(segment.start) for segment in segments[:3]]
    assert shares == [
        {"en": 0.25, "hi": 0.75},
        {"en": 1, "hi": 0},
        {"en": pytest.approx(2 / 3), "hi": pytest.approx(1 / 3)},
    ]
    assert plan.total_positions == 1800


def test_one_bound_for_all_is_for_those_that_are_drawn_from():
    mixture = '{"min_share": 0.2, "phases": [{"from_epoch": 0.5, "weights": {"hi": 1}}]}'
    plan = plan_branch(branch_of(mixture), SOURCES, 3)
    assert plan.shares_at(450) == {"en": 0, "hi": 1}


def test_a_plain_mixture_keeps_its_order():
    plan = plan_branch(branch_of('{"temperature": 0.5}'), SOURCES, 3)
    assert set(plan.settings) == {
        "order version", "seed", "sources", "mixture", "mixture block", "shard window",
    }  # fmt: skip
    share = plan.stage_mixture.segments[0].weights
    assert abs(Fraction(share[0], sum(share)) - Fraction(2**0.5 / (2**0.5 + 1))) < 1e-9


def test_more_epochs_than_the_limits_allow_are_refused():
    branch = branch_of('{"max_epochs": {"en": 1, "hi": 2.5}}', epochs=2)
    plan = plan_branch(branch, SOURCES, 3)
    assert plan.total_positions == 1350
    with pytest.raises(ConfigError, match=r"ends after 1\.5 epochs") as caught:
        check_enough(branch, plan, 10)
    (problem,) = caught.value.problems
    assert "epoch limit" in problem.what
    assert problem.value == "2 epochs, 1,800 samples; 1,350 can be drawn"
    for enough, batch_size in (
        ({"epochs": 1}, 10),
        ({"max_steps": 135}, 10),
    ):
        check_enough(
            replace(branch, stage=branch.stage.model_copy(update=enough)), plan, batch_size
        )
    longer = replace(branch, stage=branch.stage.model_copy(update={"max_steps": 136}))
    for batch_size in (10, None):
        with pytest.raises(ConfigError):
            check_enough(longer, plan, batch_size)
