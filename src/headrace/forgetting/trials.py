"""The runs of an experiment: which there are, what each is trained with, and where it lies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from headrace.errors import UserError
from headrace.forgetting.experiment_file import (
    TREATMENTS,
    ExperimentFile,
    sequence_name,
    settings_of,
)
from headrace.forgetting.run_document import Splits, TaskData, Treatment
from headrace.forgetting.sequence import SequencePlan, plan_sequence
from headrace.shards.manifest import Manifest

_TUNING, _COMPARED = "tuning", "sequences"


@dataclass(frozen=True)
class Cell:
    """A sequence with a seed: what methods are compared within."""

    order: tuple[str, ...]
    seed: int
    splits: Splits
    folder: Path

    @property
    def sequence(self) -> str:
        """Name of the sequence."""
        return sequence_name(self.order)


@dataclass(frozen=True)
class Trial:
    """One method, with one set of values, in a cell."""

    cell: Cell
    method: str
    values: Mapping[str, Any]
    """The values that are tried; empty if there is nothing to choose."""
    settings: Mapping[str, Any]
    """All settings of the method, these values included."""

    @property
    def folder(self) -> Path:
        """Its folder: other settings are another folder."""
        digest = xxhash.xxh3_64_hexdigest(json.dumps(self.settings, sort_keys=True).encode())
        return self.cell.folder / f"{self.method}_{digest[:8]}"

    @property
    def treatment(self) -> Treatment:
        """What is done beside training."""
        return Treatment(
            replay=float(self.settings.get("replay", 0.0)),
            joint=bool(self.settings.get("joint", False)),
            interpolation=self.settings.get("interpolation"),
        )

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings that are keys of the run config or of stages."""
        own = (*TREATMENTS, "joint")
        return {key: value for key, value in self.settings.items() if key not in own}


@dataclass(frozen=True)
class Setup:
    """An experiment that has been read, with what all of its runs share."""

    experiment: ExperimentFile
    base: Mapping[str, Any]
    tasks: Mapping[str, TaskData]
    manifests: Mapping[str, Manifest]
    output: Path

    def tuning_cells(self) -> list[Cell]:
        """Where values are chosen."""
        tuning = self.experiment.tuning
        if tuning is None:
            return []
        return self._cells(_TUNING, tuning.sequences, tuning.seeds, "validation")

    def compared_cells(self) -> list[Cell]:
        """Where methods are compared: one seed after the other."""
        orders = [*self.experiment.sequences, *self.experiment.shifts]
        return self._cells(_COMPARED, orders, self.experiment.seeds, "test")

    def _cells(
        self, kind: str, orders: Sequence[Sequence[str]], seeds: Sequence[int], splits: Splits
    ) -> list[Cell]:
        return [
            Cell(
                tuple(order),
                seed,
                splits,
                self.output / kind / f"{sequence_name(order)}_seed-{seed}",
            )
            for seed in seeds
            for order in orders
        ]

    def candidates(
        self, cell: Cell, method: str, chosen: Mapping[str, Mapping[str, Any]]
    ) -> list[Trial]:
        """A trial for each set of values of a method, given what the methods before it chose."""
        return [
            Trial(
                cell,
                method,
                values,
                settings_of(self.experiment, method, {**chosen, method: values}),
            )
            for values in self.experiment.methods[method].candidates()
        ]

    def trial(self, cell: Cell, method: str, chosen: Mapping[str, Mapping[str, Any]]) -> Trial:
        """The trial of a method with its chosen values."""
        values = chosen.get(method, {})
        return Trial(cell, method, values, settings_of(self.experiment, method, chosen))

    def plan(self, trial: Trial, folder: Path | None = None) -> SequencePlan:
        """Check a trial; problems name its method.

        Args:
            trial: the trial.
            folder: where its run config is written.  Default: its own folder.

        Raises:
            UserError: with all that is wrong with it.
        """
        try:
            return plan_sequence(
                self.base,
                self.tasks,
                trial.cell.order,
                folder or trial.folder,
                overrides=trial.overrides,
                seed=trial.cell.seed,
                treatment=trial.treatment,
                score=self.experiment.score,
                manifests=self.manifests,
            )
        except UserError as error:
            raise named(error, trial) from None


def named(error: UserError, trial: Trial) -> UserError:
    """The same error, whose problems name the method as a part of the experiment file."""
    place = f"methods.{trial.method}"

    def rename(problem: Any) -> Any:
        where = re.sub(r"^--set ([^=]*)=.*$", r"\1", problem.where, flags=re.DOTALL)
        return type(problem)(problem.what, f"{place}: {where}", problem.value, problem.remedy)

    return error.renamed(rename)
