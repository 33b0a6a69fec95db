"""The calibration of exported models: fitted to what they say, kept beside their weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import ConfigError, Problem
from headrace.tasks.calibration import (
    FEWEST,
    Fitted,
    Floats,
    Reliability,
    Temperatures,
    fit_temperature,
    probabilities,
)
from headrace.tasks.class_scores import Answered
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.tasks.spans import strict_spans
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification
from headrace.tasks.voting import classes_of
from headrace.training.results import write_json

CALIBRATION_FILE = "calibration.json"
VERSION = 1


def group_of(task: Task, language: str) -> str | None:
    """What has a temperature of its own: the language, of sequence classification the head.

    None for a head that gives a score.
    """
    if not isinstance(task, SequenceClassification):
        return language
    head = task.heads.of(language)
    return None if head.labels is None else head.name


def fit_calibration(task: Task, answers: Mapping[str, Sequence[Answered]]) -> dict[str, Any] | None:
    """Fit one temperature to all answers, by language, and one to each group that has enough.

    Returns the content of ``calibration.json``; None where there is nothing to fit to.
    """
    groups: dict[str, list[Answered]] = {}
    for language, own in answers.items():
        group = group_of(task, language)
        if group is not None:
            groups.setdefault(group, []).extend(own)
    overall = _fit(answered for own in groups.values() for answered in own)
    if overall is None:
        return None
    fitted = {group: _fit(own) for group, own in groups.items()}
    return {
        "version": VERSION,
        "method": "temperature",
        **_as_json(overall),
        "groups": {
            group: _as_json(one)
            for group, one in fitted.items()
            if one is not None and one.items >= FEWEST
        },
    }


def _fit(answers: Iterable[Answered]) -> Fitted | None:
    return fit_temperature(map(_seen, answers))


def _seen(answered: Answered) -> tuple[Any, Any]:
    """Scores and right classes of the items that the model sees."""
    is_seen = ~np.isnan(answered.scores).any(-1)
    return answered.scores[is_seen], answered.gold[is_seen]


def _as_json(fitted: Fitted) -> dict[str, Any]:
    return {
        "temperature": fitted.temperature,
        "items": fitted.items,
        "negative_log_likelihood": {"before": fitted.before, "after": fitted.after},
        "at_bound": fitted.is_at_bound,
    }


def write_calibration(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write ``calibration.json`` into an exported model, whole or not at all."""
    path = folder / CALIBRATION_FILE
    write_json(path, document)
    return path


def read_temperatures(folder: str | Path) -> Temperatures | None:
    """Return the temperatures of an exported model; None where it was never calibrated.

    Raises:
        ConfigError: if its ``calibration.json`` is not one.
    """
    path = Path(folder).expanduser() / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        groups = {str(name): _positive(one) for name, one in content["groups"].items()}
        return Temperatures(_positive(content), groups)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "Make it again: headrace calibrate"
        what = "this is not a calibration that can be read here"
        raise ConfigError(Problem(what, str(path), str(error)[:200], remedy)) from None


def _positive(entry: Any) -> float:
    value = float(entry["temperature"])
    if not 0 < value < float("inf"):
        raise ValueError(f"temperature {value}")
    return value


def reliability(
    task: Task, answers: Iterable[Answered], temperature: float = 1.0
) -> dict[str, Any]:
    """Return how far the probabilities of some answers can be believed.

    ``items`` are words, questions or texts.  Of token classification there are ``entities`` too:
    predicted ones, by the strict rule, each with the product of the probabilities of its tags; one
    is right if it is among the gold ones.
    """
    items, entities = Reliability(), Reliability()
    for answered in answers:
        is_seen = ~np.isnan(answered.scores).any(-1)
        shares = probabilities(answered.scores, temperature)
        items.add(shares[is_seen], answered.gold[is_seen])
        if isinstance(task, TokenClassification):
            _add_entities(entities, task, answered, shares)
    found = {"items": items.result()}
    if isinstance(task, TokenClassification):
        found["entities"] = entities.result()
    return found


def _add_entities(
    entities: Reliability, task: TokenClassification, answered: Answered, shares: Floats
) -> None:
    classes = classes_of(answered.scores)
    gold = set(strict_spans(task.names_of_tags(answered.gold.tolist())))
    spans = strict_spans(["O" if one < 0 else task.label_set.tags[one] for one in classes.tolist()])
    of_words = shares[np.arange(len(classes)), classes]
    confidence = [float(of_words[span.start : span.end].prod()) for span in spans]
    entities.add_events(np.array(confidence), np.array([span in gold for span in spans], bool))
