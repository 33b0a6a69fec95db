"""Carrying out ``headrace predict`` for any task: read, ask the models, decide, and write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.counts import counted
from headrace.errors import EXIT_DONE, ConfigError, Problem

if TYPE_CHECKING:
    from headrace.tasks.calibration import Floats
    from headrace.training.deciding import Decision
    from headrace.training.inference import TrainedModel


@dataclass(frozen=True)
class Work:
    """What is done with the inputs of one task."""

    noun: str
    """What an input is called."""
    doing: str
    """Of the progress bar."""
    read: Callable[[], Iterator[Any]]
    answer: Callable[[TrainedModel, Iterable[Any]], Iterator[Any]]
    shares: Callable[[Any], Floats | None]
    """Answer -> its probabilities, ``[items, classes]``; None where the answer says all."""
    group: Callable[[TrainedModel, Any], str | None]
    """Model and input -> what has a temperature of its own; None for a score."""
    record: Callable[[TrainedModel, Any, Any, Decision | None], Any]
    """Model, input, its answer and what is decided -> what is written."""
    write: Callable[[str, Iterable[Any]], int]
    cut: Callable[[Any], int]
    """Answer -> parts of the input beyond the maximum length."""
    cut_parts: tuple[str, str]
    """What is cut off, and what became of it."""


def carry_out(arguments: argparse.Namespace, work: Work) -> int:
    """Check the input to its end, compute, and write the output when it is complete."""
    total = sum(1 for _ in work.read())
    if not total:
        raise ConfigError(Problem(f"no {work.noun} in the input", arguments.input))

    from itertools import tee

    from tqdm import tqdm

    from headrace.training.inference import load_model

    models = [
        load_model(name, max_length=arguments.max_length, head=arguments.head)
        for name in arguments.model
    ]
    decided = _decider(models, work, arguments)
    lost: list[int] = []
    inputs, *copies = tee(work.read(), 1 + len(models))
    answers = [work.answer(model, copy) for model, copy in zip(models, copies, strict=True)]

    def records() -> Iterator[Any]:
        bar = tqdm(inputs, work.doing, total, unit=f" {work.noun}s", disable=None)
        for found, *said in zip(bar, *answers, strict=True):
            lost.append(min(map(work.cut, said)))
            yield work.record(models[0], found, said[0], decided(found, said))

    written = work.write(arguments.output, records())
    if any(lost):
        part, became = work.cut_parts
        samples = sum(map(bool, lost))
        length = max(model.max_length for model in models)
        print(
            f"warning: {counted(sum(lost), part)} in {counted(samples, work.noun)} beyond "
            f"{length} tokens, {became}; raise --max-length if the model can",
            file=sys.stderr,
        )
    print(f"{counted(written, work.noun)}: {arguments.output}")
    return EXIT_DONE


def _decider(
    models: list[TrainedModel], work: Work, arguments: argparse.Namespace
) -> Callable[[Any, list[Any]], Decision | None]:
    """What makes one answer of those of all models: calibrated, and voted on."""
    from headrace.tasks.calibration import at_temperature
    from headrace.training.calibration import read_temperatures
    from headrace.training.deciding import check_same_classes, decide

    check_same_classes([model.task for model in models], [model.name for model in models])
    temperatures = [read_temperatures(model.name) for model in models]
    vote = arguments.vote or "probabilities"

    def decided(found: Any, said: list[Any]) -> Decision | None:
        shares = []
        is_score = False
        for model, temperature, answer in zip(models, temperatures, said, strict=True):
            own = work.shares(answer)
            if own is None:
                return None
            group = work.group(model, found)
            is_score = group is None
            if temperature is not None and group is not None:
                own = at_temperature(own, temperature.of(group))
            shares.append(own)
        return decide(shares, vote, is_score=is_score)

    return decided
