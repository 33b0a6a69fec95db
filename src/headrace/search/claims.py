"""Who works on which trial: claims, signs of life, and what becomes of trials of the dead.

Optuna leaves a trial of a killed process running for ever.  Here each running trial carries the
time, host and process of its worker, from the entry of the journal that makes it on.  One whose
worker is gone fails, and the next worker starts a new one with its learning rates.  Nothing is
locked for longer than an entry in the journal takes, and still no study gets a trial too many:
trials have numbers in the order of the journal, and one that finds as many unfailed trials with
smaller numbers as are wanted fails at once.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from headrace.search.processes import is_gone, this_process
from headrace.search.study import TRIALS_FOLDER, Part, Study
from headrace.shards import storage

BEAT = "beat"
"""User attribute of a running trial: when its worker, which it names, was last alive."""
REPEATS = "repeats"
"""Number of the failed trial whose rates a trial has."""
FOLDER = "folder"
"""Folder of a trial that goes on where another was stopped."""
FOLDERS = "folders"
"""Folders of the attempts before, the latest one last."""
ERRORS = "errors"
"""Attempts that ended with an error."""
GOES_ON = "goes_on"
"""Whether a failed trial's folder may be gone on in: all its processes have ended."""
SUPERFLUOUS = "superfluous"
"""Whether a failed trial was never to be run."""
RESULT_FILE = "trial.json"
"""Result of a trial in its folder, written before the journal is told."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    value: float
    """p_s + p_o, of the last rung that was run."""
    pruned: bool
    error: str | None = None
    """Why there is no better value."""

    def write(self, folder: Path) -> None:
        """Keep the result, whatever becomes of this process."""
        folder.mkdir(parents=True, exist_ok=True)
        storage.write_atomically(str(folder / RESULT_FILE), json.dumps(vars(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """The result that is in a folder."""
        try:
            return cls(**json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on."""

    part: Part
    trial: Any
    """``optuna.Trial``."""
    folder: Path
    earlier: tuple[Path, ...]
    """Folders of earlier attempts."""
    errors: int
    """How many of these ended with an error."""

    @property
    def rates(self) -> dict[str, float]:
        """Learning rate by group."""
        return dict(self.trial.params)


def show_life(study: Study, trial_id: int) -> None:
    """Write a sign of life of this process to a running trial."""
    study.storage.set_trial_user_attr(trial_id, BEAT, _beat())


def _beat() -> dict[str, Any]:
    return {"time": time.time(), **this_process()}


class Beats:
    """Signs of life from a thread of its own while a block works on a trial."""

    def __init__(self, study: Study, claim: Claim) -> None:
        self._study = study
        self._claim = claim
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="beats", daemon=True)

    def __enter__(self) -> Beats:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._study.file.beat_seconds):
            try:
                show_life(self._study, self._claim.trial._trial_id)
            except UpdateFinishedTrialError:
                return  # others have taken this process for dead
            except (OSError, RuntimeError):
                continue  # the file system, or the journal's lock, may be back at the next beat


def cause_of_death(trial: Any, stale_seconds: float) -> str | None:
    """Why the worker of a running trial is taken for dead; None if it is alive."""
    beat = trial.user_attrs[BEAT]
    if is_gone(beat):
        return "its process is gone"
    silent = time.time() - beat["time"]
    return f"no sign of life for {silent:.0f} s" if silent > stale_seconds else None


def unfailed(part: Part) -> list[Any]:
    """All trials of a part but those that failed, by number."""
    trials = part.study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state != TrialState.FAIL]


def finished(part: Part) -> list[Any]:
    """All trials with a result."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return list(part.study.get_trials(deepcopy=False, states=states))


def reap(study: Study, part: Part) -> list[str]:
    """Fail the running trials of the dead, so that others repeat them; return what was done.

    A trial whose result is in its folder already ends with this result.
    """
    done = []
    for trial in part.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        cause = cause_of_death(trial, study.file.stale_seconds)
        if cause is None:
            continue
        outcome = Outcome.read(folder_of(study, part, trial))
        if outcome is not None:
            _end(study, trial._trial_id, outcome)
            done.append(f"{part.name} {trial.number}: {cause}, its result is kept")
        else:
            _fail(study, trial._trial_id)
            done.append(f"{part.name} {trial.number}: {cause}, it will be repeated")
    return done


def give_back(
    study: Study, claimed: Claim, *, goes_on: bool = False, errors: int | None = None
) -> None:
    """Fail a trial that this process cannot finish, so that its rates are taken again.

    Args:
        study: the study.
        claimed: the trial.
        goes_on: whether the next attempt may go on in its folder.
        errors: attempts that ended with an error. Default: as many as before.
    """
    trial_id = claimed.trial._trial_id
    with suppress(UpdateFinishedTrialError):
        study.storage.set_trial_user_attr(trial_id, GOES_ON, goes_on)
        if errors is not None:
            study.storage.set_trial_user_attr(trial_id, ERRORS, errors)
    _fail(study, trial_id)


def claim(study: Study, part: Part) -> Claim | None:
    """Take a trial, one that is to be repeated or a new one; None if there is none to take."""
    wanted = study.file.trials
    trials = part.study.get_trials(deepcopy=False)
    there = [trial for trial in trials if trial.state != TrialState.FAIL]
    if len(there) >= wanted:
        return None
    pending = to_be_repeated(part, trials)
    attributes: dict[str, Any] = {BEAT: _beat()}
    fixed: dict[str, float] = {}
    if pending:
        parent, fixed = pending[0], dict(pending[0].params)
        folder = folder_of(study, part, parent).name
        attributes |= {
            REPEATS: parent.number,
            FOLDERS: list(dict.fromkeys([*parent.user_attrs.get(FOLDERS, ()), folder])),
            ERRORS: parent.user_attrs.get(ERRORS, 0),
        }
        if parent.user_attrs.get(GOES_ON):  # else what the dead has started may still write there
            attributes[FOLDER] = folder
    trial_id = study.storage.create_new_trial(
        study.storage.get_study_id_from_name(part.name),
        create_trial(
            state=TrialState.RUNNING,
            user_attrs=attributes,
            system_attrs={"fixed_params": fixed} if fixed else {},
        ),
    )
    made = study.storage.get_trial(trial_id)
    if _is_superfluous(part, made, wanted):
        study.storage.set_trial_user_attr(trial_id, SUPERFLUOUS, True)
        _fail(study, trial_id)
        return None
    # another object each time: Optuna's own keeps the trials that it has seen
    drawing = optuna.load_study(
        study_name=part.name,
        storage=study.storage,
        sampler=part.study.sampler,
        pruner=part.study.pruner,
    )
    trial = optuna.Trial(drawing, trial_id)
    low, high = study.file.range
    for name in part.groups:
        trial.suggest_float(name, low, high, log=True)
    own = folder_of(study, part, made)
    earlier = tuple(own.with_name(name) for name in attributes.get(FOLDERS, ()))
    return Claim(part, trial, own, earlier, attributes.get(ERRORS, 0))


def to_be_repeated(part: Part, trials: Sequence[Any]) -> list[Any]:
    """The failed trials whose rates nobody has taken yet.

    Args:
        part: of the study.
        trials: all of it, by number.
    """
    begun = [
        trial
        for trial in trials
        if trial.state != TrialState.FAIL
        or (
            not trial.user_attrs.get(SUPERFLUOUS)
            and set(trial.params) == set(part.groups)  # it may have died before all were drawn
        )
    ]
    taken = {trial.user_attrs.get(REPEATS) for trial in begun}
    return [t for t in begun if t.state == TrialState.FAIL and t.number not in taken]


def _is_superfluous(part: Part, made: Any, wanted: int) -> bool:
    """Whether there are enough trials without this one, or another has the same to do."""
    before = [trial for trial in unfailed(part) if trial.number < made.number]
    parent = made.user_attrs.get(REPEATS)
    twin = parent is not None and any(t.user_attrs.get(REPEATS) == parent for t in before)
    return twin or len(before) >= wanted


def folder_of(study: Study, part: Part, trial: Any) -> Path:
    """Folder that a trial works in."""
    name = trial.user_attrs.get(FOLDER) or f"{trial.number:04d}"
    return study.folder / TRIALS_FOLDER / part.name / str(name)


def end(study: Study, claimed: Claim, outcome: Outcome) -> bool:
    """Tell the journal a result; False if the trial was given up in the meantime."""
    outcome.write(claimed.folder)
    return _end(study, claimed.trial._trial_id, outcome)


def _end(study: Study, trial_id: int, outcome: Outcome) -> bool:
    state = TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
    try:
        if outcome.error is not None:
            study.storage.set_trial_user_attr(trial_id, "error", outcome.error)
        study.storage.set_trial_state_values(trial_id, state, [outcome.value])
    except UpdateFinishedTrialError:
        return False
    return True


def _fail(study: Study, trial_id: int) -> None:
    with suppress(UpdateFinishedTrialError):  # another one was faster
        study.storage.set_trial_state_values(trial_id, TrialState.FAIL)
