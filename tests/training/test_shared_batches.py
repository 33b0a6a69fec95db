"""The loss and the gradients of a global batch do not depend on how many ranks share it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).parent / "workers" / "shared_batches.py"

pytestmark = pytest.mark.slow

KINDS = ("samples", "tokens", "packed")


@pytest.fixture(scope="module")
def steps(small_corpus, launcher, tmp_path_factory):
    """Losses and gradients, by (ranks, kind of batching, precision, accumulation)."""
    folder = tmp_path_factory.mktemp("shared_batches")
    config = small_corpus.write_config(
        folder / "run.json",
        folder / "run",
        **{
            "headrace.model.dropout": 0.0,
            "optimizer": {"type": "SGD", "params": {"lr": 1.0, "weight_decay": 0.0}},
            "gradient_clipping": 0.0,
        },
    )
    finished = subprocess.run(
        [sys.executable, str(WORKER), str(config), str(folder)],
        env=launcher.environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    taken = {}
    for ranks in (1, 2, 3, 4):
        for key, value in torch.load(folder / f"{ranks}.pt").items():
            taken[(ranks, *key)] = value
    return taken


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_any_number_of_ranks_computes_the_same(steps, ranks, kind, accumulation):
    assert_equal(steps[ranks, kind, "fp64", accumulation], steps[1, kind, "fp64", 1], 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_deepspeed_computes_the_same(steps, ranks, kind):
    assert_equal(steps[ranks, kind, "fp32", 2], steps[1, kind, "fp64", 1], 1e-4)


def assert_equal(taken, expected, tolerance):
    losses, gradients = taken
    expected_losses, expected_gradients = expected
    assert losses == pytest.approx(expected_losses, rel=tolerance)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert gradient.norm() > 1e-3
        assert (gradient - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_are_different_ones(steps, kind):
    """Equal losses say something only where batches differ."""
    losses, gradients = steps[1, kind, "fp64", 1]
    assert len(set(losses)) == 3
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)
