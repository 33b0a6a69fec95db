"""Parameter groups: every parameter once, and learning rates that nobody changes."""

import pytest
import torch

from headrace.errors import HeadraceError
from headrace.training.param_groups import (
    assert_learning_rates,
    describe_groups,
    make_param_groups,
    set_learning_rate,
)


@pytest.fixture
def groups():
    model = torch.nn.ModuleDict(
        {"linear": torch.nn.Linear(3, 2), "LayerNorm": torch.nn.LayerNorm(2)}
    )
    model["linear"].weight.requires_grad_(True)
    return make_param_groups(model, learning_rate=0.5, weight_decay=0.1, no_decay=["bias", "norm"])


def test_weights_decay_and_biases_and_norms_do_not(groups):
    by_name = {group["name"]: group for group in groups}
    assert [p.shape for p in by_name["decay"]["params"]] == [(2, 3)]
    assert len(by_name["no_decay"]["params"]) == 3
    assert (by_name["decay"]["weight_decay"], by_name["no_decay"]["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_and_empty_groups_are_left_out():
    model = torch.nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    groups = make_param_groups(model, learning_rate=1.0, weight_decay=0.1, no_decay=["bias"])
    assert [group["name"] for group in groups] == ["no_decay"]


def test_a_factor_scales_the_base_rate_and_is_not_compounded(groups):
    optimizer = torch.optim.AdamW(groups)
    assert set_learning_rate(optimizer, 0.5) == 0.25
    assert set_learning_rate(optimizer, 0.5) == 0.25
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_a_changed_base_rate_is_noticed(groups):
    optimizer = torch.optim.AdamW(groups)
    assert_learning_rates(optimizer, 0.5)
    optimizer.param_groups[1]["base_lr"] = 0.4
    with pytest.raises(HeadraceError, match=r"no_decay.*0\.4"):
        assert_learning_rates(optimizer, 0.5)


def test_the_table_counts_parameters(groups):
    table = describe_groups(groups)
    assert "decay" in table
    assert " 6 " in table
