"""A fastText model that tells languages apart, of the shape of lid.176.bin.

That one is what datatrove downloads.  This one has fewer languages; what it costs to ask it is the
same: letters by two to four, two million rows of sixteen numbers, a hierarchy of labels.
"""

from __future__ import annotations

from typing import Any

import fasttext

_SHAPE = {"dim": 16, "minn": 2, "maxn": 4, "bucket": 2_000_000, "loss": "hs"}


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Train on ``lines``, a file in fastText's form, and write ``model``."""
    model = fasttext.train_supervised(
        task["lines"], **_SHAPE, epoch=10, lr=0.5, thread=1, seed=1, verbose=0
    )
    model.save_model(task["model"])
    return {"labels": len(model.labels)}
