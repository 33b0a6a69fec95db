"""The simulation of failures: against a job walked through second by second, and formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.planning.failures import (
    Job,
    Saving,
    best_interval,
    daly_interval,
    expected_goodput,
    young_interval,
)
from headrace.planning.goodput import simulate, standard_gaps
from headrace.planning.interval_study import study_intervals

NEVER = math.inf


def walk(job: Job, saving: Saving, interval: float, gaps: list[float]) -> dict[str, float]:
    """One life of a job, event by event, with whole seconds: written without the simulation.

    ``gaps`` are the times from each start to its failure.
    """
    time = kept = failures = 0.0
    for gap in gaps:
        began, failure = time, time + gap
        signal = NEVER if job.signal_at is None else began + job.signal_at
        time += job.start
        done = kept  # training until now
        writing: tuple[float, float] | None = None  # counts at, with this training
        ended = False
        while not ended:
            if writing is not None and writing[0] <= min(time, failure):
                kept, writing = writing[1], None
            due = min((math.floor(done / interval + 1e-9) + 1) * interval, job.work)
            stop = min(time + due - done, max(signal, time))
            done += stop - time  # trains until a checkpoint is due, or the signal comes
            time = stop
            ended = time >= signal or done >= job.work - 1e-9
            if writing is not None:
                if writing[0] <= min(time, failure):
                    kept = writing[1]
                else:
                    time = max(time, writing[0])
                    kept = writing[1] if time <= failure else kept
                writing = None
            time += saving.stall
            ended |= time >= signal  # it comes while the checkpoint is taken
            writing = (time + saving.write, done)
            if time > failure:
                break
        counts_at, state = writing
        if failure < counts_at and (failure < time or ended):
            time = failure + job.detect + job.requeue
            failures += 1
            continue
        kept, time = state, counts_at
        if kept >= job.work - 1e-9:
            return {"wall": time, "failures": failures}
        time += job.requeue
    raise AssertionError("more gaps are needed")


whole = st.integers


@given(
    interval=whole(1, 60),
    stall=whole(1, 12),
    write=whole(0, 70),
    work=whole(50, 400),
    mtbf=whole(150, 2000),
    start=whole(0, 20),
    signal=st.none() | whole(90, 300),
    seed=whole(0, 10**6),
)
def test_it_is_the_life_of_a_job_event_by_event(
    interval, stall, write, work, mtbf, start, signal, seed
):
    """All times but that of the signal are whole seconds: no two events fall together."""
    signal_at = None if signal is None else signal + 0.318
    job = Job(work, mtbf, detect=30, requeue=7, start=start, signal_at=signal_at)
    saving = Saving(stall, write)
    draws = 3
    found = simulate(job, saving, [interval], draws=draws, seed=seed)[0]
    assume(found.finished.all())
    gaps = [mtbf * standard_gaps(seed, number, draws) for number in range(600)]
    for draw in range(draws):
        life = walk(job, saving, interval, [float(each[draw]) for each in gaps])
        assert found.wall[draw] == pytest.approx(life["wall"])
        assert found.failures[draw] == life["failures"]
        assert found.useful[draw] == pytest.approx(work)
        for part in (found.saving, found.lost, found.detecting, found.queueing, found.starting):
            assert part[draw] >= -1e-6


@given(interval=st.floats(1, 1e4), stall=st.floats(0, 1e3), pieces=whole(1, 50))
def test_without_failures_the_goodput_is_that_of_the_interval(interval, stall, pieces):
    job = Job(pieces * interval, mtbf=NEVER)
    found = simulate(job, Saving(stall), [interval], draws=2, seed=0)[0]
    assert found.goodput == pytest.approx(interval / (interval + stall))
    assert found.mean == pytest.approx(expected_goodput(job, stall, interval))


@given(
    mtbf=st.floats(600, 1e6),
    interval=st.floats(30, 3e4),
    stall=st.floats(0.1, 300),
    start=st.floats(0, 300),
    seed=whole(0, 10**6),
)
def test_the_time_is_what_daly_s_complete_model_expects(mtbf, interval, stall, start, seed):
    job = Job(20 * interval, mtbf, detect=60, requeue=120, start=start)
    goodput = expected_goodput(job, stall, interval)
    assume(goodput > 0.3)  # none of the draws is broken off
    found = simulate(job, Saving(stall), [interval], draws=400, seed=seed)[0]
    expected = job.work / goodput
    error = float(found.wall.std()) / math.sqrt(400)
    assert found.finished.all()
    # five standard errors; the distribution has a long tail, and few failures no spread at all
    assert float(found.wall.mean()) == pytest.approx(expected, abs=5 * error + 0.02 * expected)


@given(
    often=st.floats(0.02, 1.5),
    share=st.floats(0.2, 0.95),
    interval=st.floats(10, 1e4),
    write=st.floats(0, 500),
    seed=whole(0, 10**6),
)
def test_failures_never_help(often, share, interval, write, seed):
    """None at all is best in every draw; more of them are worse on average."""
    job = Job(15 * interval, interval / often, detect=60, requeue=120, start=30)
    more = replace(job, mtbf=share * job.mtbf)
    saving = Saving(5, write)
    calm, some, many = (
        simulate(each, saving, [interval], draws=200, seed=seed)[0].goodput
        for each in (replace(job, mtbf=NEVER), job, more)
    )
    assert np.all(some <= calm + 1e-9)
    assert np.all(many <= calm + 1e-9)
    difference = some - many
    assert difference.mean() >= -5 * difference.std() / math.sqrt(200) - 1e-9


@pytest.mark.parametrize("stall", [3, 30, 300])
@pytest.mark.parametrize("mtbf_hours", [1, 6, 24, 240])
def test_the_best_simulated_interval_is_daly_s(stall, mtbf_hours):
    mtbf = 3600.0 * mtbf_hours
    job = Job(200 * mtbf, mtbf, detect=60, requeue=120, start=60)
    study = study_intervals(job, Saving(stall), draws=100, seed=1)
    assert study.daly / 1.7 < study.best.outcome.interval < 1.7 * study.daly
    assert study.recommended.outcome.mean > study.best.outcome.mean - 0.003
    assert study.good[0] <= study.recommended.outcome.interval <= study.good[1]


def test_the_intervals_of_the_papers():
    """Figures 3 to 5 of Daly's paper: a dump takes 5 minutes."""
    for mtbf, best in ((24 * 60, 117), (6 * 60, 57), (15, 9.1)):
        assert daly_interval(5, mtbf) == pytest.approx(best, rel=0.01)
    assert young_interval(5, 24 * 60) == pytest.approx(120)
    assert daly_interval(30, 15) == 15  # a failure on average before the dump has ended twice
    # what is written in the background cannot be written more often
    assert best_interval(Saving(0.01, 60), 3600) == 60


def test_intervals_are_compared_under_the_same_failures():
    job = Job(5e4, 5e3, start=10)
    together = simulate(job, Saving(20), [300, 900], draws=50, seed=3)
    alone = simulate(job, Saving(20), [900], draws=50, seed=3)
    assert np.array_equal(together[1].wall, alone[0].wall)
    other = simulate(job, Saving(20), [900], draws=50, seed=4)
    assert not np.array_equal(other[0].wall, alone[0].wall)


def test_what_never_gets_anywhere_is_broken_off():
    """A checkpoint takes longer than the job lives."""
    found = simulate(Job(1e5, 100), Saving(2000), [500], draws=10, seed=0)[0]
    assert not found.finished.any()
    assert found.mean < 0.1
    assert np.all(found.wall < 12 * 1e5)


def test_a_signal_before_the_start_is_refused():
    with pytest.raises(ValueError, match="before it has started"):
        simulate(Job(100, 100, start=50, signal_at=50), Saving(1), [10], draws=1, seed=0)


def test_intervals_are_whole_steps():
    study = study_intervals(
        Job(1e5, 3e4, start=30), Saving(10), draws=20, seed=0, step=7.0, configured=500 * 7.0
    )
    for row in study.rows:
        assert row.outcome.interval == pytest.approx(7 * row.steps)
    assert study.configured.steps == 500
    assert study.recommended.steps == round(daly_interval(10, 3e4) / 7)
