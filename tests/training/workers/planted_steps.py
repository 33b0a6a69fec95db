"""Trains runs in which a step has a loss or a gradient that is not as it should be.

``planted`` is also used in the process of the tests.  As a script: the jobs of ``several_runs.py``,
each with ``"plant": {"kind": ..., "steps": [...], "rank": ...}``.
"""

import json
import math
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from headrace.tasks.token_classification import TokenClassification
from headrace.training.data import BatchMaker
from headrace.training.loop import BranchTrainer


class BadGradient(torch.autograd.Function):
    """Leaves the loss as it is, and makes its gradient no number."""

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.nan


@contextmanager
def planted(kind, steps, rank=0):
    """Plant something bad in the last micro-batch of one rank, in these steps (from 1).

    ``loss``: no number; ``gradient``: no number, with a good loss; ``spike``: a thousand times the
    loss; ``nothing there``: the whole batch has no samples, as if they were all quarantined.
    """
    now = {"step": 0, "parts": 0}
    loss_sum, seed_dropout = TokenClassification.loss_sum, BranchTrainer._seed_dropout
    make = BatchMaker.make

    def seed_and_note(self, step):
        now.update(step=step + 1, parts=0)
        seed_dropout(self, step)

    def bad_loss_sum(self, network, inputs, *, training):
        loss, logits = loss_sum(self, network, inputs, training=training)
        if training and now["step"] in steps and torch.distributed.get_rank() == rank:
            now["parts"] += 1
            if now["parts"] == network.gradient_accumulation_steps():
                change = {"loss": lambda x: x * math.nan, "spike": lambda x: x * 1000,
                          "gradient": BadGradient.apply}[kind]  # fmt: skip
                loss = change(loss)
        return loss, logits

    def make_without(self, step):
        batch = make(self, step)
        return replace(batch, samples=0, real_tokens=0) if step + 1 in steps else batch

    if kind == "nothing there":
        with mock.patch.object(BatchMaker, "make", make_without):
            yield
    else:
        with (
            mock.patch.object(BranchTrainer, "_seed_dropout", seed_and_note),
            mock.patch.object(TokenClassification, "loss_sum", bad_loss_sum),
        ):
            yield


if __name__ == "__main__":
    import several_runs

    from headrace.training.distributed import process_group
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    with process_group() as world:
        for job in json.loads(Path(sys.argv[-1]).read_text()):
            with planted(**job["plant"]):
                several_runs.run(job, world)
