"""The records of a run folder as typed values: events, results, stages and branches.

Every ``from_json`` accepts what a newer or older version may have written: an unknown key is
left alone, a missing or mistyped value becomes None (or empty), and numbers that are not finite
become None, so that nothing behind this module checks types again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_EMPTY: Mapping[str, Any] = MappingProxyType({})


def as_number(value: object) -> float | None:
    """``value`` as a finite float, else None (booleans are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def as_text(value: object) -> str | None:
    """``value`` where it is a string that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def as_texts(value: object) -> tuple[str, ...]:
    """The strings of a list; one string counts as a list of one."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(item for item in value if isinstance(item, str))
    return ()


def as_mapping(value: object) -> Mapping[str, Any]:
    """``value`` where it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else _EMPTY


def as_numbers(value: object) -> dict[str, float]:
    """The finite numbers of a JSON object."""
    numbers = {str(key): as_number(item) for key, item in as_mapping(value).items()}
    return {key: number for key, number in numbers.items() if number is not None}


@dataclass(frozen=True)
class TypeScore:
    """Exact-match scores of one entity type: fractions from 0 to 1, and entity counts."""

    precision: float | None
    recall: float | None
    f1: float | None
    gold: float | None
    predicted: float | None
    correct: float | None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TypeScore:
        """Read one entry of ``by_type``."""
        names = ("precision", "recall", "f1", "gold", "predicted", "correct")
        return cls(**{name: as_number(record.get(name)) for name in names})


@dataclass(frozen=True)
class Scores:
    """The scores of one language (or of one subset of it); fractions from 0 to 1."""

    values: Mapping[str, float]
    """``fine_macro_f1``, ``micro_f1``, ``accuracy``, ..."""
    by_type: Mapping[str, TypeScore] = field(default_factory=dict)
    by_coarse_type: Mapping[str, TypeScore] = field(default_factory=dict)
    subsets: Mapping[str, Scores] = field(default_factory=dict)
    """By part of the data."""
    questions: Mapping[str, Scores] = field(default_factory=dict)
    """By what is asked."""
    samples: float | None = None
    """Sentences, where they are tagged."""
    words: float | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Scores:
        """Read the scores of one language."""
        values = as_numbers(record)
        return cls(
            samples=values.pop("samples", None) or values.pop("sentences", None),
            words=values.pop("words", None),
            values=values,
            by_type=_type_scores(record.get("by_type")),
            by_coarse_type=_type_scores(record.get("by_coarse_type")),
            subsets=cls._parts(record.get("subsets")),
            questions=cls._parts(record.get("questions")),
        )

    @classmethod
    def _parts(cls, value: object) -> dict[str, Scores]:
        return {
            str(name): cls.from_json(as_mapping(part)) for name, part in as_mapping(value).items()
        }


def _type_scores(value: object) -> dict[str, TypeScore]:
    return {
        str(name): TypeScore.from_json(as_mapping(item)) for name, item in as_mapping(value).items()
    }


@dataclass(frozen=True)
class Start:
    """The event that opens a branch."""

    steps: float | None
    epochs: float | None
    languages: tuple[str, ...]
    mixture: Mapping[str, float]
    """Share of each language in the stream; sums to 1."""
    samples_per_epoch: float | None
    batch_size: float | None
    world_size: float | None
    zero_stage: float | None
    precision: str | None
    parameters: float | None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Start:
        """Read a ``start`` event."""
        return cls(
            steps=as_number(record.get("steps")),
            epochs=as_number(record.get("epochs")),
            languages=as_texts(record.get("languages")),
            mixture=as_numbers(record.get("mixture")),
            samples_per_epoch=as_number(record.get("samples_per_epoch")),
            batch_size=as_number(record.get("batch_size")),
            world_size=as_number(record.get("world_size")),
            zero_stage=as_number(record.get("zero_stage")),
            precision=as_text(record.get("precision")),
            parameters=as_number(record.get("parameters")),
        )


MEASURES = (
    *("step_seconds_p50", "step_seconds_p95", "step_seconds_max", "data_wait_share"),
    *("overhead_share", "memory_allocated", "memory_resident", "mfu"),
)
"""What a training record says of time and memory, beside speed and padding."""


@dataclass(frozen=True)
class TrainPoint:
    """One training record.  A loss that was not finite is None."""

    step: int
    epoch: float | None
    loss: float | None
    learning_rate: float | None
    tokens_per_s: float | None
    samples_per_s: float | None
    padding_share: float | None
    time: float | None
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """By parameter group, where the config has groups."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Of the steps since the record before: times, memory, utilisation."""

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrainPoint:
        """Read a ``train`` event, whose step must be a number."""
        return cls(
            step=int(record["step"]),
            epoch=as_number(record.get("epoch")),
            loss=as_number(record.get("loss")),
            learning_rate=as_number(record.get("learning_rate")),
            tokens_per_s=as_number(record.get("tokens_per_s")),
            samples_per_s=as_number(record.get("samples_per_s")),
            padding_share=as_number(record.get("padding_share")),
            time=as_number(record.get("time")),
            learning_rates=as_numbers(record.get("learning_rates")),
            measures=as_numbers({name: record.get(name) for name in MEASURES}),
        )


@dataclass(frozen=True)
class Validation:
    """One validation record."""

    step: int
    epoch: float | None
    loss: float | None
    loss_by_language: Mapping[str, float]
    scores: Mapping[str, Scores]
    best: bool
    time: float | None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Validation:
        """Read a ``validation`` event, whose step must be a number."""
        return cls(
            step=int(record["step"]),
            epoch=as_number(record.get("epoch")),
            loss=as_number(record.get("loss")),
            loss_by_language=as_numbers(record.get("loss_by_language")),
            scores=_scores(record.get("metrics")),
            best=record.get("best") is True,
            time=as_number(record.get("time")),
        )


def _scores(value: object) -> dict[str, Scores]:
    return {
        str(name): Scores.from_json(as_mapping(item)) for name, item in as_mapping(value).items()
    }


@dataclass(frozen=True)
class Result:
    """What a finished branch came to."""

    stage: str
    branch: str
    languages: tuple[str, ...]
    steps: float | None
    best_step: float | None
    validation_loss: float | None
    scores: Mapping[str, Scores]
    throughput: Mapping[str, float]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Result:
        """Read one entry of ``stages`` in ``results.json``."""
        return cls(
            stage=as_text(record.get("stage")) or "training",
            branch=as_text(record.get("branch")) or "all",
            languages=as_texts(record.get("languages")),
            steps=as_number(record.get("steps")),
            best_step=as_number(record.get("best_step")),
            validation_loss=as_number(record.get("validation_loss")),
            scores=_scores(record.get("metrics")),
            throughput=as_numbers(record.get("throughput")),
        )


@dataclass(frozen=True)
class StageSettings:
    """What the config plans for a stage."""

    languages: tuple[str, ...] = ()
    for_each: str | None = None
    start_from: str | None = None
    epochs: float | None = None
    keep_best: str | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Branch:
    """One branch of a stage: its events, and its result once it is finished."""

    stage: str
    name: str
    start: Start | None
    restarts: int
    training: tuple[TrainPoint, ...]
    validations: tuple[Validation, ...]
    result: Result | None

    @property
    def status(self) -> str:
        """``finished``, ``unfinished`` (running, or stopped before its end) or ``planned``."""
        if self.result:
            return "finished"
        return "unfinished" if self.start or self.training else "planned"

    @property
    def best_validation(self) -> Validation | None:
        """The last validation marked best; without a mark the one with the smallest loss."""
        marked = [validation for validation in self.validations if validation.best]
        if marked:
            return marked[-1]
        with_loss = [item for item in self.validations if item.loss is not None]
        return min(with_loss, key=lambda item: item.loss or 0.0, default=None)

    @property
    def scores(self) -> Mapping[str, Scores]:
        """Scores by language: of the result, or of the best validation so far."""
        if self.result and self.result.scores:
            return self.result.scores
        best = self.best_validation
        return best.scores if best else {}

    @property
    def validation_loss(self) -> float | None:
        """Validation loss of the result, or the best one so far; nats."""
        if self.result and self.result.validation_loss is not None:
            return self.result.validation_loss
        return self.best_validation.loss if self.best_validation else None

    @property
    def loss_by_language(self) -> Mapping[str, float]:
        """Validation loss by language at the best validation."""
        return self.best_validation.loss_by_language if self.best_validation else {}

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint (so far)."""
        if self.result and self.result.best_step is not None:
            return int(self.result.best_step)
        return self.best_validation.step if self.best_validation else None

    @property
    def steps_done(self) -> int:
        """Optimizer steps that are known to be done."""
        if self.result and self.result.steps is not None:
            return int(self.result.steps)
        logged = [point.step for point in self.training[-1:]]
        logged += [validation.step for validation in self.validations[-1:]]
        return max(logged, default=0)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the branch trains on."""
        if self.start and self.start.languages:
            return self.start.languages
        return self.result.languages if self.result else ()


@dataclass(frozen=True)
class Stage:
    """A stage with its branches."""

    name: str
    settings: StageSettings
    branches: tuple[Branch, ...]
