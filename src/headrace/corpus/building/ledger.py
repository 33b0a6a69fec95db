"""Ledgers of a build: a line for each piece of work that is done, added as it is done.

A build that is started again reads them and does the rest.  Only the process that leads the build
writes them; a line that was not written to its end when that was killed is not there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from headrace.shards.filesystems import translated


class Ledger:
    """Lines of JSON in a file, each on disk before :meth:`add` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        """What was done when the ledger was opened, and since."""
        with translated(str(path), "write it"):
            whole = 0
            if path.exists():
                for line in path.read_bytes().splitlines(keepends=True):
                    row = _parsed(line)
                    if row is None:
                        break
                    self.rows.append(row)
                    whole += len(line)
            self._file = path.open("ab")
            self._file.truncate(whole)

    def add(self, row: dict[str, Any]) -> None:
        """Write that something is done."""
        with translated(str(self._path), "write it"):
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows.append(row)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None for what is left of one that was being written."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
