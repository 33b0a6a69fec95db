"""The loss and the gradients of a global batch do not depend on how many ranks share it."""

from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).parent / "workers" / "shared_batches.py"

pytestmark = pytest.mark.slow

KINDS = ("samples", "tokens", "packed")
CHANGES = {
    "headrace.model.dropout": 0.0,
    "optimizer": {"type": "SGD", "params": {"lr": 1.0, "weight_decay": 0.0}},
    "gradient_clipping": 0.0,
}


@pytest.fixture(scope="module")
def steps(small_corpus, launcher, tmp_path_factory):
    """Losses and gradients, by (ranks, kind of batching, precision, accumulation)."""
    return take_steps(small_corpus, launcher, tmp_path_factory.mktemp("tags"), (1, 2, 3, 4))


@pytest.fixture(scope="module")
def choice_steps(choice_corpus, launcher, tmp_path_factory):
    """The same of multiple choice, of samples with 2 to 4 choices."""
    return take_steps(choice_corpus, launcher, tmp_path_factory.mktemp("choices"), (1, 3))


def take_steps(corpus, launcher, folder, all_ranks):
    config = corpus.write_config(folder / "run.json", folder / "run", **CHANGES)
    finished = launcher.run_alone(WORKER, str(config), str(folder), *map(str, all_ranks))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    taken = {}
    for ranks in all_ranks:
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


@pytest.mark.parametrize("kind", ["samples", "tokens"])
@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 2), (3, 1), (3, 2)])
def test_ranks_share_questions_with_the_same_gradients(choice_steps, ranks, accumulation, kind):
    expected = choice_steps[1, kind, "fp64", 1]
    assert_equal(choice_steps[ranks, kind, "fp64", accumulation], expected, 1e-12)
    assert_equal(choice_steps[ranks, kind, "fp32", 2], expected, 1e-4)


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
