"""What a run came to, language by language, and over several runs.

Scores stay fractions from 0 to 1 here; tables and plots show them in percent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace.errors import LabelError
from headrace.report.records import Branch, Scores, Stage
from headrace.report.run_folder import RunFolder


@dataclass(frozen=True)
class LanguageResult:
    """The final scores of one language and the branch that they come from."""

    language: str
    branch: Branch
    scores: Scores
    by_stage: Mapping[str, float]
    """Main score after each stage that has scores for this language, in stage order."""
    lower_is_better: bool = False
    """Whether less of the main score is better."""

    @property
    def loss(self) -> float | None:
        """Validation loss of this language in nats, at the best step."""
        loss = self.branch.loss_by_language.get(self.language)
        alone = tuple(self.branch.scores) == (self.language,)
        return self.branch.validation_loss if loss is None and alone else loss

    @property
    def gain(self) -> float | None:
        """How much better the main score of the last stage is than that of the first, with two or
        more stages."""
        values = list(self.by_stage.values())
        if len(values) < 2:
            return None
        return values[0] - values[-1] if self.lower_is_better else values[-1] - values[0]


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1 in the denominator) of one score over runs."""

    mean: float
    deviation: float | None
    """None for a single run."""
    runs: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation of ``values``; None without values."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are there; None where there are none."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def branch_for(stage: Stage, language: str) -> Branch | None:
    """The branch of ``stage`` whose model serves ``language``, among those with scores for it.

    That is the branch of the same name, else one that trained on the language, else the first.
    """
    able = [branch for branch in stage.branches if language in branch.scores]
    return min(
        able,
        key=lambda branch: (branch.name != language, language not in branch.languages),
        default=None,
    )


def language_results(run: RunFolder) -> list[LanguageResult]:
    """The final scores of every language that was ever validated, in order of first mention."""
    languages = dict.fromkeys(
        language for branch in run.branches for language in _languages_scored(branch)
    )
    found = []
    for language in languages:
        by_stage = {
            stage.name: branch
            for stage in run.stages
            if (branch := branch_for(stage, language)) is not None
        }
        last = list(by_stage.values())[-1]
        main = {
            stage: value
            for stage, branch in by_stage.items()
            if (value := run.terms.main_of(branch.scores[language].values)) is not None
        }
        lower = run.terms.main in run.terms.lower_is_better
        found.append(LanguageResult(language, last, last.scores[language], main, lower))
    return found


def _languages_scored(branch: Branch) -> list[str]:
    """Languages with scores, in training order where known."""
    trained = [language for language in branch.languages if language in branch.scores]
    return list(dict.fromkeys([*trained, *branch.scores]))


def coarse_families(
    label_set: str | None, types: Iterable[str]
) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
    """``types`` in label-set order, grouped by coarse family: ((family, types), ...).

    A type that the label set does not know, or every type where the label set cannot be found
    (a file that has moved, or ``discover``), goes into a last group with the family None.
    """
    wanted = dict.fromkeys(types)
    families: dict[str | None, list[str]] = {}
    if label_set is not None:
        from headrace.tasks.labels import load_label_set

        try:
            known = load_label_set(label_set)
        except LabelError:
            pass
        else:
            for type_ in known.types:
                if type_ in wanted:
                    families.setdefault(known.coarse[type_], []).append(type_)
    placed = {type_ for group in families.values() for type_ in group}
    rest = sorted(type_ for type_ in wanted if type_ not in placed)
    if rest:
        families[None] = rest
    return tuple((family, tuple(group)) for family, group in families.items())


@dataclass(frozen=True)
class ComparedScore:
    """One score of one language in one branch, in every run of a comparison."""

    stage: str
    branch: str
    language: str
    score: str
    values: tuple[float | None, ...]
    """One value a run, None where a run has none."""

    @property
    def spread(self) -> Spread | None:
        """Over the runs that have a value."""
        return spread([value for value in self.values if value is not None])


def compare_runs(runs: Sequence[RunFolder], scores: Iterable[str]) -> list[ComparedScore]:
    """Line up ``scores`` of several runs by stage, branch and language."""
    by_run = [
        {
            (branch.stage, branch.name, language, score): value
            for branch in run.branches
            for language in _languages_scored(branch)
            for score in scores
            if (value := branch.scores[language].values.get(score)) is not None
        }
        for run in runs
    ]
    keys = dict.fromkeys(key for values in by_run for key in values)
    return [ComparedScore(*key, tuple(values.get(key) for values in by_run)) for key in keys]


def run_labels(runs: Sequence[RunFolder]) -> list[str]:
    """A name for each run: its own, with the folder's name where two runs share a name."""
    names = [run.name for run in runs]
    labels = []
    for number, run in enumerate(runs):
        label = run.name
        if names.count(label) > 1:
            label = f"{label} ({run.path.resolve().name})"
        if label in labels:
            label = f"{label} #{number + 1}"
        labels.append(label)
    return labels
