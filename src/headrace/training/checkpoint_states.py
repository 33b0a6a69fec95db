"""What DeepSpeed saves, taken from it before it reaches the disk, and written by Headrace.

DeepSpeed makes the states of a checkpoint between barriers of its own: a rank whose disk is full
in the middle of that would leave the others waiting.  So the states are only collected there, and
written afterwards, when a rank may fail and say so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch
import xxhash
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from headrace.shards import storage
from headrace.training.checkpoint_marker import FileFacts

State = tuple[Path, Any]
"""Where a state belongs, and the state: tensors in dicts, lists and tuples."""


class _Collector(TorchCheckpointEngine):  # type: ignore[misc]  # DeepSpeed has no types
    """Stands where DeepSpeed writes files, and keeps what it is given."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def create(self, info: Any) -> None:
        """Nothing to prepare."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing to make: the folders are there."""

    def save(self, state_dict: Any, path: str) -> None:
        """Keep a state."""
        self.states.append((Path(path), state_dict))

    def commit(self, info: Any) -> bool:
        """Nothing to end."""
        return True


@contextmanager
def collecting(engine: Any) -> Iterator[list[State]]:
    """Give the states that this rank's ``engine.save_checkpoint`` saves in the block.

    They are the tensors that are trained on, not copies.
    """
    collector, own = _Collector(), engine.checkpoint_engine
    engine.checkpoint_engine = collector
    # scripts that DeepSpeed copies beside a checkpoint, with which it would fail on one rank alone
    engine._copy_recovery_script = lambda _path: None
    try:
        yield collector.states
    finally:
        engine.checkpoint_engine = own
        del engine._copy_recovery_script


def copied(states: Sequence[State]) -> list[State]:
    """Copy states to CPU memory; tensors that share memory do so in the copy."""
    storages: dict[int, torch.UntypedStorage] = {}
    return [(path, _copied(state, storages)) for path, state in states]


def _copied(value: Any, storages: dict[int, torch.UntypedStorage]) -> Any:
    if torch.is_tensor(value):
        tensor = value.detach()
        whole: Any = tensor.untyped_storage()
        if whole.nbytes() == 0:
            return torch.empty_like(tensor, device="cpu")
        place = whole.data_ptr()
        if place not in storages:
            storages[place] = whole.cpu() if whole.device.type != "cpu" else whole.clone()
        return torch.empty(0, dtype=tensor.dtype).set_(
            storages[place], tensor.storage_offset(), tensor.size(), tensor.stride()
        )
    if isinstance(value, Mapping):
        items = copy.copy(value)  # with the attributes that a state dict of a module has
        for key, item in value.items():
            items[key] = _copied(item, storages)  # type: ignore[index]
        return items
    if type(value) in (list, tuple):
        return type(value)(_copied(item, storages) for item in value)
    return copy.deepcopy(value)  # a loss scaler goes on counting


def bytes_of(states: Sequence[State]) -> int:
    """Bytes that the tensors of states take in their files, each memory once a file."""
    total = 0
    for _, state in states:
        found: dict[int, int] = {}
        _measure(state, found)
        total += sum(found.values())
    return total


def _measure(value: Any, found: dict[int, int]) -> None:
    if torch.is_tensor(value):
        whole = value.untyped_storage()
        found[whole.data_ptr()] = whole.nbytes()
    elif isinstance(value, Mapping):
        for item in value.values():
            _measure(item, found)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _measure(item, found)


class _HashedFile:
    """A file that torch writes to, from its start to its end, and that is hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = xxhash.xxh3_128()
        self.size = 0
        self.error: OSError | None = None
        """What the disk said; torch may hide it behind an error about the end of the file."""

    def write(self, data: Any) -> int:
        try:
            storage.write_all(self._file, data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def write_states(states: Sequence[State]) -> dict[Path, FileFacts]:
    """Write states to their files and force them to disk.

    Raises:
        OSError: if the disk is full, or does not take them for another reason.
    """
    written = {}
    for path, state in states:
        with path.open("wb", buffering=0) as raw:
            file = _HashedFile(raw)
            try:
                torch.save(state, cast("IO[bytes]", file))
            except Exception:
                if file.error is not None:
                    raise file.error from None
                raise
        storage.sync(path)
        written[path] = FileFacts(file.size, file.digest.hexdigest())
    return written
