"""The metrics file of a run, ``metrics.jsonl``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from filelock import FileLock

from headrace.training.callbacks import Record


class MetricsFile:
    """Writes ``metrics.jsonl``, one JSON object a line.

    Branches that are trained side by side by several jobs share the file: a lock guards it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(path.with_name(f".{path.name}.lock"))

    def on_start(self, record: Record, first_step: int) -> None:
        """Drop the lines that a killed run wrote after the step from which training goes on."""
        branch = (record["stage"], record["branch"])

        def stays(line: Record) -> bool:
            if (line["stage"], line["branch"]) != branch:
                return True
            return first_step > 0 and line["kind"] != "start" and int(line["step"]) <= first_step

        with self.lock:
            kept = [line for line in _complete_lines(self.path) if stays(line)]
            temporary = self.path.with_suffix(".partial")
            text = "".join(json.dumps(line) + "\n" for line in [*kept, record])
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path)

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Write a logged step."""
        if logged:
            self._write(record)

    def on_validation(self, record: Record) -> None:
        """Write a validation."""
        self._write(record)

    def close(self) -> None:
        """Nothing to do: every line is on its way to disk when it is written."""

    def _write(self, record: Record) -> None:
        with self.lock, self.path.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a killed job of another branch tore its last line
                    stream.write(b"\n")
            stream.write(json.dumps(record).encode() + b"\n")


def _complete_lines(path: Path) -> list[Record]:
    """Read the lines of a metrics file; the last one may be torn by a crash and is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines
