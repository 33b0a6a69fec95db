"""A worker: takes trials of a study, one after the other, until the study is full."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from headrace.errors import DivergedError, HeadraceError, StopRequested, UserError
from headrace.search.claims import (
    Beats,
    Claim,
    Outcome,
    claim,
    end,
    finished,
    give_back,
    reap,
    unfailed,
)
from headrace.search.sampling import SamplerByNumber, first_rung, rungs
from headrace.search.study import Study

ATTEMPTS = 3
"""A trial that ends with an error so often gets the value of a model that knows nothing."""
FAILURE_VALUE = 0.0
"""That value: scores are shares or correlations."""
LONGEST_WAIT = 5.0
"""Seconds between two looks at what other workers do."""

_log = logging.getLogger(__name__)


class Objective(Protocol):
    """What a search makes large."""

    def __call__(self, claim: Claim, epochs: int) -> float:
        """The value of a trial whose stages behind the first have so many epochs.

        Called for each rung with more epochs, in the folder of the claim.

        Raises:
            DivergedError: to give the trial the value of a model that knows nothing.
            StopRequested: after a stop signal, if a later call can go on.
            UserError: ends the search.
            HeadraceError: the trial is tried again, ``ATTEMPTS`` times in all.
        """


def work(
    study: Study,
    objective: Objective,
    *,
    wait: bool = True,
    stop_requested: Callable[[], bool] = lambda: False,
    on_end: Callable[[Claim], None] = lambda _: None,
) -> int:
    """Take trials until the study is full, and return how many this process has finished.

    Args:
        study: an open study.
        objective: gives the value of a trial.
        wait: while others work on the last trials, wait for them, to take over if they die.
        stop_requested: asked between trials.
        on_end: called when a trial has its result: what it keeps for another rung can go.

    Raises:
        StopRequested: after a stop signal; the trial in hand will go on where it was.
    """
    file = study.file
    for part in study.parts:
        part.study.sampler = SamplerByNumber(file.sampler, file.sampler_seed)
    done, pause = 0, 0.1
    while not is_full(study):
        if stop_requested():
            raise StopRequested("the search was stopped between trials")
        for part in study.parts:
            for line in reap(study, part):
                _log.warning("%s", line)
        claimed = _claim_any(study)
        if claimed is not None:
            done += _run(study, claimed, objective, on_end)
            pause = 0.1
        elif not wait:
            break
        else:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)
    return done


def is_full(study: Study) -> bool:
    """Whether every part has all its finished trials."""
    return all(len(finished(part)) >= study.file.trials for part in study.parts)


def _claim_any(study: Study) -> Claim | None:
    """A trial of the part that has the fewest, so that all of them grow together."""
    for part in sorted(study.parts, key=lambda part: len(unfailed(part))):
        claimed = claim(study, part)
        if claimed is not None:
            return claimed
    return None


def _run(
    study: Study, claimed: Claim, objective: Objective, on_end: Callable[[Claim], None]
) -> bool:
    """Carry out a trial; whether it is finished, and by this process."""
    part, trial = claimed.part, claimed.trial
    claimed.folder.mkdir(parents=True, exist_ok=True)
    with Beats(study, claimed):
        try:
            outcome = _earlier_result(claimed) or _value(study, claimed, objective)
        except DivergedError as error:
            outcome = Outcome(FAILURE_VALUE, pruned=False, error=str(error))
        except (StopRequested, KeyboardInterrupt):
            give_back(study, claimed, goes_on=True)
            raise
        except UserError:
            give_back(study, claimed)
            raise
        except HeadraceError as error:
            errors = claimed.errors + 1
            _log.warning("%s %d: %s", part.name, trial.number, error)
            if errors < ATTEMPTS:
                give_back(study, claimed, errors=errors)
                return False
            outcome = Outcome(FAILURE_VALUE, pruned=False, error=str(error))
        except BaseException:
            give_back(study, claimed)
            raise
    kept = end(study, claimed, outcome)
    on_end(claimed)
    if not kept:
        _log.warning("%s %d: another worker has taken it over", part.name, trial.number)
    return kept


def _earlier_result(claimed: Claim) -> Outcome | None:
    """What an attempt found whose worker was taken for dead, and was not."""
    for folder in claimed.earlier:
        outcome = Outcome.read(folder)
        if outcome is not None:
            return outcome
    return None


def _value(study: Study, claimed: Claim, objective: Objective) -> Outcome:
    trial, pruner = claimed.trial, study.file.pruner
    first = first_rung(claimed.part.study, trial, pruner)
    value = 0.0
    for epochs in rungs(pruner, study.epochs):
        if epochs < min(first, study.epochs):
            continue
        value = objective(claimed, epochs)
        if epochs < study.epochs:
            trial.report(value, epochs)
            if trial.should_prune():
                return Outcome(value, pruned=True)
    return Outcome(value, pruned=False)
