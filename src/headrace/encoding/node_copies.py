"""Copies of encoded arrays on a disk of the node: training reads them at random, at every step.

Each shard is copied by one process of a node, whoever comes first, and nodes do not wait for each
other.  A copy is compared with the hashes of the sidecar before it appears, by renaming.  Where a
copy cannot be made, the shared one is read: nothing fails for lack of a copy.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from headrace.encoding import store
from headrace.encoding.encoded_shard import EncodedShard
from headrace.shards.locks import claimed

_KEPT_FREE = 0.05
"""Of the disk of the node: others need it too, and it may be memory."""
_WAIT = 0.1
_log = logging.getLogger(__name__)


def copy_to_node(shards: Iterable[EncodedShard], scratch: Path, tick: Callable[[], object]) -> int:
    """Have the arrays of shards read from a folder of this node from now on, by this process.

    Args:
        shards: sidecars that have been opened; those without arrays are passed over.
        scratch: folder on a disk of the node; the processes of the node have it in common.
        tick: called again and again; what it raises breaks the work off.

    Returns:
        How many are read from there.
    """
    folder = scratch / "encoded"
    waiting = deque({s.meta["made"]: s for s in shards if "made" in s.meta}.values())
    copied = passed = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while waiting:
            tick()
            shard = waiting.popleft()
            made = shard.meta["made"]
            copy = folder / made
            with claimed(folder / f"{made}.lock", wait=False) as mine:
                if mine is None:  # another rank copies it: this one goes on with the next
                    waiting.append(shard)
                    passed += 1
                    if passed >= len(waiting):
                        time.sleep(_WAIT)
                    continue
                passed = 0
                if not copy.is_dir():
                    if not shard.folder.is_dir():  # nothing of it is left to be read
                        continue
                    if not _copy(shard, copy):
                        break
            store.use_copy(made, copy)
            copied += 1
    except OSError as error:
        _log.warning("no copies on this node, shared files are read: %s", error)
    return copied


def _copy(shard: EncodedShard, copy: Path) -> bool:
    """Copy a sidecar; False if there is no room."""
    source = shard.folder
    types = {name: np.dtype(entry["dtype"]) for name, entry in shard.meta["arrays"].items()}
    sizes = sum(path.stat().st_size for path in source.iterdir())
    disk = os.statvfs(copy.parent)
    room = disk.f_bavail * disk.f_frsize - sizes
    if room < _KEPT_FREE * disk.f_blocks * disk.f_frsize:
        _log.warning("no room for more copies on this node, shared files are read: %s", copy.parent)
        return False
    part = copy.with_name(f".{copy.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        shutil.copytree(source, part)
        meta = store.read_meta(part, {"made": copy.name}, types, verify=True)
    except store.DamagedFolderError as error:
        raise OSError(f"{part} is not what was copied: {error}") from error
    assert meta is not None
    part.rename(copy)
    return True
