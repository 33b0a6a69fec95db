"""A model between two others: each weight a mixture of theirs (WiSE-FT, Wortsman et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from headrace.config.messages import did_you_mean
from headrace.encoding.tokenizer import tokenizer_fingerprint
from headrace.errors import ConfigError, Problem, UserError
from headrace.forgetting.scoring import problems_of_score
from headrace.training.export import finish_interrupted_export, read_facts, write_export
from headrace.training.inference import TrainedModel, encode_for_model, load_model, score

GRID = tuple(number / 10 for number in range(11))
"""Mixtures that are tried by default: 0, 0.1, ..., 1."""

_WITHOUT_EFFECT = ("_name_or_path", "dtype", "initializer_range", "transformers_version")
"""Settings of a network's config that say nothing about what it computes."""
_NAMED = 5
"""Tensors that a message names at most."""


@dataclass(frozen=True)
class Trial:
    """A mixture that was measured."""

    alpha: float
    scores: Mapping[str, float]
    """By source the score that alpha is chosen by; not a number where it is not defined."""
    loss: float
    """Mean over the labels of all sources, in nats."""
    metrics: Mapping[str, dict[str, Any]]
    """All scores by source."""

    @property
    def score(self) -> float:
        """What alpha is chosen by: the mean over the sources."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class Interpolation:
    """What :func:`interpolate` wrote."""

    alpha: float
    """Share of the second model."""
    trials: tuple[Trial, ...]
    """What was measured, in the order of the grid; empty without validation data."""


def interpolate(
    first: str | Path,
    second: str | Path,
    output: Path,
    *,
    alpha: float | None = None,
    validation: Mapping[str, str] | None = None,
    grid: Sequence[float] = GRID,
    criterion: str | None = None,
    cache_dir: Path = Path(".headrace/encoded"),
    batch_size: int = 32,
) -> Interpolation:
    """Write the export whose weights are (1 - alpha) of the first model's + alpha of the second's.

    The weights are mixed in fp32, tensor by tensor, heads included.  Those that are equal in both
    models stay as they are, and alpha 0 and 1 give the weights of the one and the other model to
    the bit.

    Args:
        first: exported model, or another in Hugging Face format: the one before a training, say.
        second: the one behind it.  Architecture, labels and tokenizer have to be the same.
        output: folder of the new export; one of an earlier interpolation is replaced.
        alpha: share of the second model, 0 to 1.  None: the best of the grid.
        validation: shards by source, to choose alpha with, or to measure the one that is given.
        grid: shares to try; of those that are equally good the largest is chosen.
        criterion: score whose mean over the sources is the greatest at the chosen share.  Default:
            the first one that the task has for each source, of those of which more is better.
        cache_dir: local folder for encoded data.
        batch_size: samples at once.

    Raises:
        UserError: for shares outside of 0 to 1, no validation data to choose with, a folder in the
            way, and with every difference of two models that do not fit together.
    """
    validation = dict(validation or {})
    shares = tuple(grid) if alpha is None else (float(alpha),)
    problems = _problems_of_settings(shares, validation, choose=alpha is None)
    problems += _problems_of_output(output, first, second)
    models: list[TrainedModel] = []
    for name in (first, second):
        try:
            models.append(load_model(name))
        except UserError as error:
            problems += error.problems
    if len(models) == 2:
        problems += differences(*models)
        if criterion is not None and criterion not in models[0].task.scores:
            remedy = did_you_mean(criterion, models[0].task.scores)
            problems.append(Problem("the task has no such score", "criterion", criterion, remedy))
        elif criterion is not None:
            problems += problems_of_score(models[0].task, criterion, "criterion")
    if problems:
        raise ConfigError(problems)
    model = models[0]
    ends = _weights(models[0].network), _weights(models[1].network)
    trials: list[Trial] = []
    if validation:
        sources = encode_for_model(model, validation, cache_dir)
        for share in shares:
            _put_in(model.network, mix(*ends, share))
            title = f"measuring alpha {share:g}"
            found = score(model, sources, batch_size=batch_size, title=title)
            deciding = _deciding(found.metrics, model, criterion)
            trials.append(Trial(share, deciding, found.loss, found.metrics))
    best = _best(trials)
    if alpha is None and best is None:
        what = "no mixture has a loss and a score that are numbers"
        raise ConfigError(Problem(what, "validation", ", ".join(validation), "Check the models"))
    chosen = best.alpha if alpha is None and best is not None else shares[0]
    measured = next((trial for trial in trials if trial.alpha == chosen), None)
    finish_interrupted_export(output)
    write_export(
        output,
        model.network,
        mix(*ends, chosen),
        model.tokenizer,
        _facts(models, chosen, measured, trials, criterion),
        model.task,
    )
    return Interpolation(chosen, tuple(trials))


def mix(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], alpha: float
) -> dict[str, torch.Tensor]:
    """Return (1 - alpha) of the first weights + alpha of the second ones, by name.

    Args:
        first: fp32 tensors, and tensors of whole numbers that are equal in both.
        second: tensors of the same names and shapes.
        alpha: 0 to 1; at the ends the weights of one side, to the bit.
    """
    if alpha in (0, 1):  # lerp would make a negative zero a positive one
        return {name: value.clone() for name, value in (second if alpha else first).items()}
    return {
        name: torch.lerp(value, second[name], alpha) if value.is_floating_point() else value.clone()
        for name, value in first.items()
    }


def differences(first: TrainedModel, second: TrainedModel) -> list[Problem]:
    """Return what keeps two models from being mixed: task, labels, config, tokenizer, tensors."""
    where = f"{first.name} and {second.name}"
    if first.task.name != second.task.name:
        value = f"{first.task.name}, {second.task.name}"
        return [Problem("the models are for different tasks", where, value)]
    remedy = "Give two models of one run, or fine-tune one from the other"
    facts = _flat(first.task.facts()), _flat(second.task.facts())
    settings = _flat(first.network.config.to_dict()), _flat(second.network.config.to_dict())
    found = [
        Problem(f"the models differ in {name}", where, f"{ours!r}, {theirs!r}", remedy)
        for sides in (facts, settings)
        for name, ours, theirs in _unequal(*sides)
        if name not in _WITHOUT_EFFECT and "dropout" not in name
    ]
    if tokenizer_fingerprint(first.tokenizer) != tokenizer_fingerprint(second.tokenizer):
        found.append(Problem("the models have different tokenizers", where, remedy=remedy))
    for what, names in _unlike(_weights(first.network), _weights(second.network)).items():
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            found.append(Problem(what, where, ", ".join(names[:_NAMED]) + more, remedy))
    return found


def _unequal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield name, ours.get(name), theirs.get(name)


def _unlike(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> dict[str, list[str]]:
    """Names of tensors by what is unlike about them."""
    shared = [name for name in ours if name in theirs]
    same_shape = [name for name in shared if ours[name].shape == theirs[name].shape]
    return {
        "one model alone has these weights": sorted({*ours} ^ {*theirs}),
        "weights have different shapes": [name for name in shared if name not in same_shape],
        "tensors of whole numbers differ and cannot be mixed": [
            name
            for name in same_shape
            if not ours[name].is_floating_point() and not torch.equal(ours[name], theirs[name])
        ],
    }


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested objects as one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{name}.")
        else:
            flat[f"{path}{name}"] = value
    return flat


def _weights(network: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What an export holds, on the CPU: each parameter once, and buffers that are saved."""
    state = {name: value.detach().cpu().clone() for name, value in network.named_parameters()}
    persistent = network.state_dict().keys()
    for name, value in network.named_buffers():
        if name in persistent:
            state[name] = value.detach().cpu().clone()
    return state


def _put_in(network: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def _deciding(
    metrics: Mapping[str, Mapping[str, Any]], model: TrainedModel, criterion: str | None
) -> dict[str, float]:
    """The score of each source that alpha is chosen by.

    Raises:
        ConfigError: if a source has no such score.
    """
    found = {}
    for source, scores in metrics.items():
        there = [name for name in model.task.scores if name in scores]
        name = criterion or next(one for one in there if one not in model.task.lower_is_better)
        if name not in there:
            remedy = did_you_mean(name, there)
            raise ConfigError(Problem(f"{source} has no such score", "criterion", name, remedy))
        found[source] = math.nan if scores[name] is None else float(scores[name])
    return found


def _best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score, at equal scores that nearest to the second model."""
    numbers = [
        trial for trial in trials if math.isfinite(trial.score) and math.isfinite(trial.loss)
    ]
    return max(numbers, key=lambda trial: (trial.score, trial.alpha), default=None)


def _facts(
    models: Sequence[TrainedModel],
    alpha: float,
    measured: Trial | None,
    trials: Sequence[Trial],
    criterion: str | None,
) -> dict[str, Any]:
    """What is written beside the new export."""
    first, second = models
    languages = [*first.facts.get("languages", ()), *second.facts.get("languages", ())]
    return {
        "languages": list(dict.fromkeys(languages)),
        "validation_loss": measured.loss if measured else None,
        "metrics": dict(measured.metrics) if measured else {},
        "task": first.task.name,
        **first.task.facts(),
        "max_length": max(first.max_length, second.max_length),
        "interpolation": {
            "alpha": alpha,
            "models": [
                {
                    "folder": model.name,
                    **{
                        key: model.facts[key]
                        for key in ("run", "stage", "branch", "step", "config_fingerprint")
                        if key in model.facts
                    },
                }
                for model in models
            ],
            "criterion": criterion,
            "trials": [{"alpha": trial.alpha, "scores": dict(trial.scores)} for trial in trials],
        },
    }


def _problems_of_settings(
    shares: Sequence[float], validation: Mapping[str, str], *, choose: bool
) -> list[Problem]:
    name = "grid" if choose else "alpha"
    problems = [
        Problem("a share is a number from 0 to 1", name, str(share))
        for share in shares
        if not 0 <= share <= 1
    ]
    if choose and not shares:
        problems.append(Problem("there is nothing to try", name, remedy="Give one share at least"))
    if choose and not validation:
        remedy = "Name shards to measure on, or give alpha"
        problems.append(Problem("alpha is chosen on validation data", "validation", remedy=remedy))
    return problems


def _problems_of_output(output: Path, first: str | Path, second: str | Path) -> list[Problem]:
    if output.resolve() in {Path(name).expanduser().resolve() for name in (first, second)}:
        return [Problem("this is one of the models to mix", "output", str(output))]
    is_empty = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if is_empty or "interpolation" in read_facts(output):
        return []
    remedy = "Choose a new folder"
    return [Problem("the folder holds something else", "output", str(output), remedy)]
