"""Models and votes of models measured on sources, with what analyses need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError, Problem, UserError
from headrace.tasks.class_scores import Answered, has_classes
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification
from headrace.training.calibration import group_of, read_temperatures, reliability
from headrace.training.collecting import Collector
from headrace.training.deciding import (
    Decision,
    as_answers,
    check_same_classes,
    decide_all,
    mean_loss,
    measure,
    subsets_of,
    tags_of,
)
from headrace.training.inference import described_task, encode_for_model, load_model, score


@dataclass
class Measured:
    """What a model or the models of a run, or their vote, came to; all by language."""

    name: str
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``model``, ``loss``, ``metrics`` and ``encoding``."""
    tasks: dict[str, Task] = field(default_factory=dict)
    answers: dict[str, list[Answered]] = field(default_factory=dict)
    """What was said of each sample; empty where it was not kept."""
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    """The answers to each sample, of a vote alone."""
    temperatures: dict[str, float | None] = field(default_factory=dict)
    """None where the model is not calibrated."""

    @property
    def kinds(self) -> list[str]:
        """Names of the tasks."""
        return list(dict.fromkeys(task.name for task in self.tasks.values()))

    @property
    def label_sets(self) -> list[str]:
        """Names of the label sets, where the tasks have some."""
        names = (task.facts().get("label_set") for task in self.tasks.values())
        return list(dict.fromkeys(str(name) for name in names if name))

    def tags(self, language: str) -> list[list[str]]:
        """Predicted tags of each sample of a language."""
        task = self.tasks[language]
        assert isinstance(task, TokenClassification)
        voted = language in self.decisions
        decisions = self.decisions.get(language)
        if decisions is None:
            decisions = decide_all([self.answers[language]], [1.0], "majority")
        return [tags_of(task, decision, voted=voted) for decision in decisions]


def check_models(
    members: Sequence[Mapping[str, Sequence[str]]], *, head: str | None, errors: bool
) -> None:
    """Raise :class:`UserError` for models that cannot be analysed or cannot vote together.

    No weights are loaded, so that this comes before all work.

    Args:
        members: of each one that is asked for, model -> languages that it serves.
        head: of sequence classification, answers for all sources; None: that of each source.
        errors: whether errors of tags are to be analysed.
    """
    problems = []
    by_language: dict[str, list[tuple[str, Task]]] = {}
    for served in members:
        for name, languages in served.items():
            task = described_task(name, head=head)
            if errors and not isinstance(task, TokenClassification):
                what = "errors are analysed of models that tag words"
                problems.append(Problem(what, name, task.name, "Leave --errors out"))
            elif not has_classes(task):
                what = "what this model says cannot be voted on or analysed"
                problems.append(Problem(what, name, task.name))
            for language in languages:
                by_language.setdefault(language, []).append((name, task))
    for language, named in by_language.items():
        try:
            check_same_classes([task for _, task in named], [name for name, _ in named], language)
        except UserError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def measure_models(
    name: str,
    served: Mapping[str, Sequence[str]],
    urls: Mapping[str, str],
    *,
    cache: Path,
    batch_size: int,
    max_length: int | None,
    head: str | None,
    keep: bool,
) -> Measured:
    """Measure a model, or the models of a run.

    Args:
        name: as it was asked for.
        served: model -> languages that it serves.
        urls: sources by language.
        cache: local folder for encoded data.
        batch_size: samples at once.
        max_length: tokens of a sequence at most; None: as the model was trained.
        head: of sequence classification, answers for all sources; None: that of each source.
        keep: whether what is said of each sample is kept.

    Raises:
        UserError: if there is no such model, or its labels are not those of the sources.
    """
    measured = Measured(name)
    for folder, languages in served.items():
        model = load_model(folder, max_length=max_length, head=head)
        collector = Collector(model.task) if keep else None
        sources = encode_for_model(model, {one: urls[one] for one in languages}, cache)
        title = f"evaluating {', '.join(languages)}"
        result = score(model, sources, batch_size=batch_size, title=title, observe=collector)
        temperatures = read_temperatures(folder)
        for language in languages:
            measured.entries[language] = {
                "model": model.name,
                "loss": result.loss_by_language[language],
                "metrics": result.metrics[language],
                "encoding": sources[language].report.as_dict(),
            }
            measured.tasks[language] = model.task
            if collector is not None:
                measured.answers[language] = collector.by_language[language]
                group = group_of(model.task, language)
                if temperatures is not None and group is not None:
                    measured.temperatures[language] = temperatures.of(group)
    return measured


def vote_of(members: Sequence[Measured], vote: str) -> Measured:
    """Return the vote of some models with the same labels, whose answers were kept.

    Args:
        members: in the order in which ties are broken.
        vote: one of :data:`headrace.tasks.voting.VOTES`.

    The ``loss`` is that of the mean probabilities.  What encoding lost is that of the model that
    lost the fewest samples' words or tokens.
    """
    voted = Measured(" + ".join(member.name for member in members))
    for language in members[0].entries:
        task = members[0].tasks[language]
        answers = [member.answers[language] for member in members]
        temperatures = [member.temperatures.get(language) or 1.0 for member in members]
        decisions = decide_all(answers, temperatures, vote)
        entries = [member.entries[language] for member in members]
        voted.tasks[language] = task
        voted.decisions[language] = decisions
        voted.answers[language] = as_answers(answers[0], decisions)
        voted.entries[language] = {
            "model": [entry["model"] for entry in entries],
            "loss": mean_loss(answers[0], decisions),
            "metrics": measure(task, language, answers[0], decisions, voted=True),
            "members": [{key: entry[key] for key in ("loss", "metrics")} for entry in entries],
            "encoding": {
                key: min(entry["encoding"][key] for entry in entries)
                for key in entries[0]["encoding"]
            },
        }
    return voted


def reliability_of(measured: Measured) -> dict[str, Any]:
    """Return how far probabilities can be believed, by language, and by its subsets.

    ``raw`` is of the probabilities as the network gives them, or of the mean that was voted with;
    ``calibrated``, of one model, with the temperature of its ``calibration.json``.  A language
    whose head gives scores has none.
    """
    found: dict[str, Any] = {}
    for language, answers in measured.answers.items():
        task = measured.tasks[language]
        if group_of(task, language) is None:
            continue
        temperature = measured.temperatures.get(language)
        named = {"raw": 1.0} | ({} if temperature is None else {"calibrated": temperature})
        found[language] = {
            name: {
                "temperature": value,
                **reliability(task, answers, value),
                "subsets": {
                    subset: reliability(task, own, value)
                    for subset, own in subsets_of(answers).items()
                },
            }
            for name, value in named.items()
        }
    return found
