"""Which checkpoints stay."""

import math

from hypothesis import given
from hypothesis import strategies as st

from headrace.config.checkpoint import CheckpointConfig
from headrace.training.retention import kept, kept_for_good

LOSSES = st.none() | st.floats(allow_nan=True)


def test_the_default_keeps_the_last_two():
    assert kept(dict.fromkeys((5, 10, 15), None), CheckpointConfig()) == {10, 15}
    assert kept_for_good(dict.fromkeys((5, 10), 1.0), CheckpointConfig()) == set()


def test_the_best_and_each_so_many_steps_are_kept_besides():
    losses = {100: 0.9, 150: None, 200: 0.4, 250: None, 300: 0.5, 350: math.nan, 400: 0.4}
    settings = CheckpointConfig(keep_last=1, keep_best=2, keep_every=300)
    assert kept(losses, settings) == {200, 300, 400}
    assert kept_for_good(losses, settings) == {200, 300, 400}
    settings = CheckpointConfig(keep_last=2, keep_best=1)
    assert kept(losses, settings) == {200, 350, 400}
    assert kept_for_good(losses, settings) == {200}


@given(
    losses=st.dictionaries(st.integers(0, 60), LOSSES, min_size=1),
    last=st.integers(1, 5),
    best=st.integers(0, 5),
    every=st.none() | st.integers(1, 20),
)
def test_what_is_kept_when_a_branch_is_trained_checkpoint_by_checkpoint(losses, last, best, every):
    """Dropping after each save comes to the same as deciding at the end."""
    settings = CheckpointConfig(keep_last=last, keep_best=best, keep_every=every)
    there = {}
    for step in sorted(losses):
        there[step] = losses[step]
        there = {step: there[step] for step in kept(there, settings)}
        assert step in there
    assert set(there) == kept(losses, settings)
    finite = sorted(loss for loss in losses.values() if loss is not None and math.isfinite(loss))
    best_kept = sorted(losses[step] for step in kept_for_good(losses, settings)
                       if losses[step] is not None and math.isfinite(losses[step]))  # fmt: skip
    assert best_kept[:best] == finite[:best]
