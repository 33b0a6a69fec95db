"""Predictions of memory against what processes take that really train."""

from __future__ import annotations

import pytest
from measure import CELL, measured
from networks import NETWORKS, predicted

TOLERANCE = 0.15


def check(**spec) -> None:
    spec = {**CELL, **spec}
    assert predicted(spec).peak.bytes == pytest.approx(measured(spec), rel=TOLERANCE)


@pytest.mark.slow
def test_a_prediction_holds():
    check(network="bert", stage=2)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("network", list(NETWORKS))
def test_predictions_hold_at_every_stage(network, stage, ranks):
    check(network=network, stage=stage, ranks=ranks)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    "changes",
    [
        {"checkpointing": True, "micro": 16},
        {"attention": "eager", "micro": 16},
        {"accumulation": 2},
        {"precision": "bf16", "stage": 2},
        {"micro": 32},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_predictions_follow_the_settings(changes):
    check(network="llama", **{"stage": 1, **changes})
