"""Megatron-Energon: our tars after ``energon prepare``, crude samples through a cooker."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron.energon import (  # type: ignore[import-not-found]
    Cooker,
    DefaultTaskEncoder,
    WorkerConfig,
    basic_sample_keys,
    get_savable_loader,
    get_train_dataset,
    stateless,
)


def convert(tars: str, folder: str) -> None:
    """Index the tars and write the data set's files beside them; ``folder`` holds links."""
    command = [str(Path(sys.executable).with_name("energon")), "prepare", "--non-interactive"]
    options = ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "2"]
    subprocess.run([*command, *options, folder], check=True)


@stateless  # type: ignore[untyped-decorator]
def _cook(sample: dict[str, Any]) -> dict[str, Any]:
    return {**basic_sample_keys(sample), "payload": sample["txt"]}


class TextEncoder(DefaultTaskEncoder):  # type: ignore[misc]
    """Hands the payloads on."""

    decoder = None
    cookers = (Cooker(_cook),)

    @stateless  # type: ignore[untyped-decorator]
    def batch(self, samples: list[dict[str, Any]]) -> list[bytes]:
        """The payloads of a batch."""
        return [sample["payload"] for sample in samples]


class Loader:
    """The loader that can save its state."""

    def __init__(self, task: dict[str, Any]) -> None:
        data = get_train_dataset(
            task["folder"],
            worker_config=WorkerConfig(
                rank=task.get("rank", 0),
                world_size=task.get("world_size", 1),
                num_workers=task["workers"],
                seed_offset=task["seed"],
            ),
            batch_size=task["batch_size"],
            batch_drop_last=False,
            shuffle_buffer_size=1000,
            max_samples_per_sequence=100,
            repeat=False,
            task_encoder=TextEncoder(),
        )
        self._loader = get_savable_loader(data)

    def __iter__(self) -> Iterator[list[bytes]]:
        return iter(self._loader)

    def save(self) -> bytes:
        """The state of this rank."""
        return pickle.dumps(self._loader.save_state_rank())

    def load(self, state: bytes) -> None:
        """Go on from there."""
        self._loader.restore_state_rank(pickle.loads(state))
