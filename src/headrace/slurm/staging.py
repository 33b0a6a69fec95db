"""Compiled extensions on a disk of the node, before its ranks start: ``slurm/rank.sh`` calls this.

    python -m headrace.slurm.staging SCRATCH

prints the folder that ranks are to use.  The first rank of a node copies, the others wait for it;
other nodes are not waited for.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
from pathlib import Path

import xxhash
from filelock import FileLock

from headrace.training.extensions import extensions_dir

_LOCKS = ("lock", "*.lock")
"""Of builds: they belong to the folder in which something is built."""


def copy_extensions(source: Path, scratch: Path) -> Path:
    """Return a copy of the compiled extensions on this node, made if it is not there.

    Each state of the folder has a copy of its own: files that are in use are never replaced.

    Args:
        source: the folder that all nodes share.
        scratch: a folder on a disk of this node.

    Raises:
        OSError: if it cannot be made, or is not what was copied.
    """
    copy = scratch / f"extensions-{_state_of(source)}"
    scratch.mkdir(parents=True, exist_ok=True)
    with FileLock(scratch / f".{copy.name}.lock"):
        if copy.is_dir():
            return copy
        part = scratch / f".{copy.name}.part"
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        # with the times of the files: nothing is to be compiled again
        shutil.copytree(source, part, ignore=shutil.ignore_patterns(*_LOCKS))
        for path in _files_of(source):
            if not filecmp.cmp(path, part / path.relative_to(source), shallow=False):
                raise OSError(f"the copy of {path} has other bytes")
        part.rename(copy)
    return copy


def _state_of(folder: Path) -> str:
    """A name for what is in a folder."""
    digest = xxhash.xxh3_64()
    for path in _files_of(folder):
        facts = path.stat()
        line = f"{path.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def _files_of(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(path.match(name) for name in _LOCKS))


def main() -> None:
    """Print the folder of extensions that a rank is to use."""
    source = extensions_dir()
    try:
        print(copy_extensions(source, Path(sys.argv[1])) if source.is_dir() else source)
    except OSError as error:
        print(f"no copy of the extensions on this node: {error}", file=sys.stderr)
        print(source)


if __name__ == "__main__":
    main()
