"""How far a study is, and who works on it."""

from __future__ import annotations

import time

from optuna.trial import TrialState

from headrace.report import numbers
from headrace.report.tables import Table
from headrace.search.claims import BEAT, cause_of_death, to_be_repeated
from headrace.search.study import Study


def status_tables(study: Study) -> tuple[Table, Table]:
    """Counts of trials of each pair, and the running trials with their workers."""
    counts, running = [], []
    for part in study.parts:
        trials = part.study.get_trials(deepcopy=False)
        by_state = {
            state: [trial for trial in trials if trial.state == state] for state in TrialState
        }
        whole, early = by_state[TrialState.COMPLETE], by_state[TrialState.PRUNED]
        causes = {
            trial.number: cause_of_death(trial, study.file.stale_seconds)
            for trial in by_state[TrialState.RUNNING]
        }
        dead = sum(cause is not None for cause in causes.values())
        best = max((trial.value for trial in whole), default=None)
        counts.append(
            (
                part.name,
                f"{len(whole) + len(early):,} of {study.file.trials:,}",
                numbers.count(len(early)),
                numbers.count(len(causes) - dead),
                numbers.count(dead + len(to_be_repeated(part, trials))),
                numbers.MISSING if best is None else f"{best:.4f}",
            )
        )
        for trial in by_state[TrialState.RUNNING]:
            beat = trial.user_attrs[BEAT]
            running.append(
                (
                    f"{part.name} {trial.number}",
                    beat["host"],
                    str(beat["pid"]),
                    beat["job"] or numbers.MISSING,
                    numbers.duration(time.time() - beat["time"]),
                    causes[trial.number] or "works",
                )
            )
    columns = ("Pair", "Finished", "Ended early", "Running", "To be repeated", "Best p_s + p_o")
    workers = ("Trial", "Host", "Process", "Job", "Last beat", "State")
    return (
        Table("Trials", columns, tuple(counts)),
        Table("Running trials", workers, tuple(running), names=2),
    )
