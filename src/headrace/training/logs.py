"""Which log lines a user sees: ours, and warnings of the libraries below."""

from __future__ import annotations

import logging

import transformers


def quiet_libraries() -> None:
    """Leave the terminal to the progress bar: libraries speak only when something is wrong."""
    for name in (
        *("DeepSpeed", "httpx", "filelock", "fsspec", "gensim", "torch.distributed"),
        *("alembic", "mlflow.store.db.utils"),
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
