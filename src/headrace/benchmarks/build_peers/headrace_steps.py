"""Headrace: what each step that is taken for a document costs, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.corpus.building.examine import Examiner, Step
from headrace.corpus.media import read_records
from headrace.corpus.recipe import load_recipe

_WARM = 20
REST = "signature, row"


class TimedExaminer(Examiner):
    """Adds up the processor time of each step."""

    def _made(self) -> list[tuple[str, Step]]:
        self.spent: dict[str, float] = {}
        return [(name, self._timed(name, take)) for name, take in super()._made()]

    def _timed(self, name: str, take: Step) -> Callable[[Any], Any]:
        def step(document: Any) -> Any:
            start = time.process_time()
            result = take(document)
            self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - start
            return result

        return step


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a document by step."""
    loaded = load_recipe(Path(task["recipe"]), Path(task["output"]))
    examiner = TimedExaminer(loaded.recipe)
    began = time.process_time()
    records = [
        (record, file)
        for file in loaded.files
        for record in read_records(file.url, loaded.recipe.sources[0], key=file.key)
    ]
    read = time.process_time() - began
    for record, file in records[:_WARM]:
        examiner.row(record, file)
    examiner.spent.clear()
    began = time.process_time()
    for record, file in records:
        examiner.row(record, file)
    whole = time.process_time() - began
    rest = whole - sum(examiner.spent.values())
    steps = {"read": read, **examiner.spent, REST: rest}
    return {name: seconds / len(records) for name, seconds in steps.items()}
