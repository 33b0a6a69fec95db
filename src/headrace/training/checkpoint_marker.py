"""What makes a checkpoint complete: the file ``COMPLETE``, and how files are compared with it.

The marker names every file with its size and its hash (xxh3, 128 bits: it finds damage, and is
faster than disks are; it is no defence against somebody who changes files on purpose).  A marker
of earlier versions has sizes alone, by which its checkpoint is judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from headrace.file_hash import hash_of
from headrace.shards import storage

MARKER = "COMPLETE"
_HASH = "xxh3_128"


@dataclass(frozen=True)
class FileFacts:
    """What is known of a file of a checkpoint."""

    size: int
    """In bytes."""
    digest: str | None
    """xxh3-128, hexadecimal; None in checkpoints of versions that did not hash."""


@dataclass(frozen=True)
class Marker:
    """The content of ``COMPLETE``."""

    step: int
    layout: Mapping[str, Any]
    """What it can be loaded into: ``world_size``, ``zero_stage``, ``precision``."""
    validation_loss: float | None
    """That of the validation at this step; None if there was none."""
    files: Mapping[str, FileFacts]
    """By path inside the checkpoint."""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(facts.size for facts in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it into a checkpoint and force it to disk."""
        content: dict[str, Any] = {
            "step": self.step,
            **self.layout,
            "validation_loss": self.validation_loss,
            "files": {
                name: {"bytes": facts.size, _HASH: facts.digest}
                for name, facts in sorted(self.files.items())
            },
        }
        content[_HASH] = _digest_of(content)
        (folder / MARKER).write_text(json.dumps(content, indent=1), encoding="utf-8")
        storage.sync(folder / MARKER)


def read_marker(folder: Path) -> Marker:
    """Read the marker of a checkpoint.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        digest = content.pop(_HASH, None)
        hashed = any(isinstance(facts, dict) for facts in content["files"].values())
        if (hashed or digest is not None) and digest != _digest_of(content):
            raise ValueError(f"{MARKER} is not as it was written")
        files = {
            name: FileFacts(facts, None)
            if isinstance(facts, int)
            else FileFacts(facts["bytes"], facts[_HASH])
            for name, facts in content.pop("files").items()
        }
        return Marker(
            step=content.pop("step"),
            validation_loss=content.pop("validation_loss", None),
            layout=content,
            files=files,
        )
    except FileNotFoundError:
        raise ValueError(f"no {MARKER} marker") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{MARKER} is torn") from None
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{MARKER} cannot be read ({error})") from None


def damage_of(folder: Path, files: Mapping[str, FileFacts]) -> str | None:
    """Compare files with what the marker says, and name the first that is not as it was written.

    Returns:
        What is wrong, or None.
    """
    for name, facts in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != facts.size:
                return f"{name} has {size:,} bytes instead of {facts.size:,}"
            if facts.digest is not None and hash_of(path) != facts.digest:
                return f"{name} is not as it was written: its {_HASH} is another one"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror or error}"
    return None


def share_of(files: Mapping[str, FileFacts], rank: int, ranks: int) -> dict[str, FileFacts]:
    """Share files out so that each rank has about as many bytes: the largest first.

    A pure function: the shares of all ranks are all files.
    """
    loads = [0] * ranks
    mine = {}
    for name in sorted(files, key=lambda name: (-files[name].size, name)):
        least = loads.index(min(loads))
        loads[least] += files[name].size
        if least == rank:
            mine[name] = files[name]
    return mine


def steps_in(folder: Path) -> Sequence[Path]:
    """The checkpoints of a folder, complete or not, in the order of their steps."""
    return sorted(folder.glob("step-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The finished steps of a checkpoint, by the name of its folder."""
    return int(checkpoint.name.removeprefix("step-"))


def _digest_of(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())
