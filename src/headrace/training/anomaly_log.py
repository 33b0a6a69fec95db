"""``anomalies.jsonl`` of a branch: the steps that were not applied, with their samples.

The file is also what a run that was killed after going back knows of it: which steps it leaves
out, and how often it went back.  So lines are forced to disk before anything is done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headrace.shards import storage
from headrace.stream.packing import samples_of
from headrace.training.anomalies import Anomalies, Verdict
from headrace.training.data import RunData
from headrace.training.distributed import World, failing_together, gather_json
from headrace.training.stages import Branch

FILE = "anomalies.jsonl"


class AnomalyLog:
    """The file of one branch; collectives, in which the main rank reads and writes."""

    def __init__(
        self, folder: Path, world: World, samples_at: Callable[[int], Sequence[str]]
    ) -> None:
        """``samples_at`` gives the samples of a step, counted from 0, as people know them."""
        self.path = folder / FILE
        self.world = world
        self._samples_at = samples_at

    def start(self, anomalies: Anomalies, step: int) -> None:
        """Tell the judge what is on record, when a branch goes on after ``step`` finished steps.

        Steps that were skipped after it will be judged again: their lines are dropped.
        """
        lines: list[dict[str, Any]] | None = None
        with failing_together(self.world):
            if self.world.is_main:
                lines = self._read()
                kept = [
                    line for line in lines if line["kind"] == "rollback" or line["step"] <= step
                ]
                if len(kept) != len(lines):
                    storage.write_atomically(str(self.path), b"".join(map(_line, kept)))
        rollbacks = [
            line for line in gather_json(lines, self.world)[0] or [] if line["kind"] == "rollback"
        ]
        anomalies.rollbacks = len(rollbacks)
        anomalies.left_out = frozenset(
            entry["step"] for line in rollbacks for entry in line["left_out"]
        )

    def write(
        self,
        verdict: Verdict,
        steps: Sequence[int],
        *,
        loss: float,
        gradient_norm: float | None,
        back_to: int | None = None,
    ) -> None:
        """Write down that steps are not applied.

        Args:
            verdict: why.
            steps: counted from 1; the last one is the bad one.
            loss: of the bad one.
            gradient_norm: of the bad one, if it is known.
            back_to: finished steps of the checkpoint that the branch goes back to.
        """
        with failing_together(self.world):
            if not self.world.is_main:
                return
            left_out = [{"step": step, "samples": [*self._samples_at(step - 1)]} for step in steps]
            record = {
                "kind": verdict.action,
                "step": steps[-1],
                "reason": verdict.reason,
                "loss": loss,
                "gradient_norm": gradient_norm,
                "back_to": back_to,
                "left_out": left_out,
                "time": time.time(),
            }
            with self.path.open("ab") as file:
                file.write(_line(record))
                file.flush()
                os.fsync(file.fileno())

    def _read(self) -> list[dict[str, Any]]:
        """The lines that are whole: a kill may have torn the last one."""
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
        return lines


def sample_names(data: RunData, branch: Branch, plan: Any) -> Callable[[int], list[str]]:
    """Return a function that names the samples of a step, counted from 0.

    A sample is named ``LANGUAGE/KEY``; where a sample of the stream is not one of the shard (a
    piece of a text), ``LANGUAGE/SHARD:NUMBER`` with its number among those of the encoded shard.
    """
    opened = data.opened

    def names(step: int) -> list[str]:
        found = []
        samples = samples_of(plan.batch(step))
        keys: dict[tuple[int, int], list[str]] = {}
        for place, shard, sample in zip(
            samples.source.tolist(), samples.shard.tolist(), samples.sample.tolist(), strict=True
        ):
            language = branch.languages[place]
            if (place, shard) not in keys:
                keys[place, shard] = opened.train[language].keys(shard)
                if (chosen := opened.chosen.get(language)) is not None:
                    keys[place, shard] = [keys[place, shard][n] for n in chosen.shards[shard]]
            encoded = data.train[language].shards[shard]
            known = keys[place, shard]
            found.append(
                f"{language}/{known[sample]}"
                if len(known) == len(encoded)
                else f"{language}/{encoded.name}:{sample}"
            )
        return found

    return names


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
