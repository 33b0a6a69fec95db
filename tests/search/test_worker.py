"""Many workers on one study: exact counts, and nothing lost when they are killed."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from headrace.errors import ConfigError, DivergedError, HeadraceError, StopRequested, UserError
from headrace.search import claims
from headrace.search.claims import REPEATS, Outcome, finished, reap
from headrace.search.processes import this_process
from headrace.search.storage import JOURNAL_FILE, JournalLock
from headrace.search.worker import is_full, work

from .analytic import BEST, open_analytic, value_of

WORKER = Path(__file__).parent / "workers" / "analytic_worker.py"


class Workers:
    """Processes on one folder."""

    def __init__(self, folder: Path, seconds: float = 0.1, **changes):
        self.folder, self.seconds, self.changes = folder, seconds, changes
        self.log = folder.parent / "promised.jsonl"
        self.processes = []

    def start(self, count: int) -> None:
        command = [
            sys.executable, str(WORKER), str(self.folder), str(self.log), str(self.seconds),
            json.dumps(self.changes),
        ]  # fmt: skip
        self.processes = [
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(count)
        ]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()

    def wait(self) -> None:
        for process in self.processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors

    def promised(self) -> list[dict]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    def wait_for_promises(self, count: int) -> None:
        limit = time.monotonic() + 200
        while len(self.promised()) < count:
            assert time.monotonic() < limit, "the workers do not get on"
            assert all(process.poll() is None for process in self.processes)
            time.sleep(0.02)


def numbers_of(study):
    return {part.name: [trial.number for trial in finished(part)] for part in study.parts}


@pytest.mark.slow
def test_a_search_killed_three_times_goes_on_with_other_numbers_of_workers(tmp_path):
    """kill -9 of everything, thrice; what any worker knew to be finished is there at the end."""
    changes = {"trials": 24, "flat": True, "sampler": "tpe"}
    workers = Workers(tmp_path / "study", **changes)
    for count, promises in ((2, 6), (3, 15), (1, 22)):
        workers.start(count)
        workers.wait_for_promises(promises)
        workers.kill()
    workers.start(2)
    workers.wait()
    study = open_analytic(workers.folder, **changes)
    assert {name: len(numbers) for name, numbers in numbers_of(study).items()} == {
        "a-b": 24,
        "a-b/flat": 24,
    }
    for part in study.parts:
        trials = part.study.get_trials(deepcopy=False)
        done = {trial.number: trial.value for trial in finished(part)}
        for fact in workers.promised():
            if fact["part"] == part.name:
                assert done[fact["number"]] == fact["value"]
        assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
        for trial in finished(part):
            assert trial.value == pytest.approx(value_of(trial.params))
        retries = [trial for trial in trials if REPEATS in trial.user_attrs]
        for trial in retries:
            parent = trials[trial.user_attrs[REPEATS]]
            assert parent.state == TrialState.FAIL
            assert trial.params == parent.params
    everything = [t for part in study.parts for t in part.study.get_trials(deepcopy=False)]
    assert [trial for trial in everything if REPEATS in trial.user_attrs], "nobody was reaped"


@pytest.mark.slow
def test_workers_that_start_together_do_not_draw_the_same_or_too_many(tmp_path):
    workers = Workers(tmp_path / "study", seconds=0.02, trials=15)
    workers.start(3)
    workers.wait()
    (part,) = open_analytic(workers.folder, trials=15).parts
    drawn = Counter(tuple(trial.params.values()) for trial in finished(part))
    assert len(drawn) == 15
    assert set(drawn.values()) == {1}


def test_one_worker_draws_the_same_each_time(tmp_path):
    def drawn(name, **changes):
        study = open_analytic(tmp_path / name, trials=12, sampler="tpe", **changes)
        work(study, lambda claim, epochs: value_of(claim.rates))
        return [trial.params for trial in finished(study.parts[0])]

    assert drawn("one") == drawn("same")
    assert drawn("one") != drawn("other", sampler_seed=1)


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_samplers_find_better_rates_than_chance(tmp_path, sampler):
    def best(kind):
        study = open_analytic(tmp_path / kind, trials=18, sampler=kind)
        work(study, lambda claim, epochs: value_of(claim.rates))
        values = sorted(trial.value for trial in finished(study.parts[0]))
        return sum(values[-3:]) / 3

    assert best(sampler) > best("random")


def test_a_trial_that_died_between_result_and_journal_keeps_its_result(tmp_path):
    study = open_analytic(tmp_path, trials=3)
    (part,) = study.parts
    dead = _die_in_a_trial(study)
    Outcome(1.25, pruned=False).write(tmp_path / "trials" / "a-b" / f"{dead.number:04d}")
    assert "its result is kept" in reap(study, part)[0]
    assert [trial.value for trial in finished(part)] == [1.25]
    work(study, lambda claim, epochs: value_of(claim.rates))
    assert len(finished(part)) == 3


def _die_in_a_trial(study):
    """A running trial of a process that is gone."""
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    trial = claims.claim(study, study.parts[0]).trial
    beat = {**this_process(), "pid": int(gone.stdout), "time": time.time()}
    trial.set_user_attr(claims.BEAT, beat)
    return trial


def test_the_rates_of_the_dead_are_taken_once_however_many_reap(tmp_path):
    study = open_analytic(tmp_path, trials=4)
    (part,) = study.parts
    dead = _die_in_a_trial(study)
    assert "will be repeated" in reap(study, part)[0]
    assert reap(open_analytic(tmp_path, trials=4), part) == []
    folders = []
    work(study, lambda claim, epochs: folders.append(claim.folder.name) or value_of(claim.rates))
    assert len(finished(part)) == 4
    again = [t for t in finished(part) if t.user_attrs.get(REPEATS) == dead.number]
    assert [trial.params for trial in again] == [dead.params]
    assert f"{dead.number:04d}" not in folders, "what the dead has started may write there"


def test_two_who_repeat_the_same_trial_find_out(tmp_path, monkeypatch):
    """Both have looked before either began: the second is superfluous."""
    study, other = open_analytic(tmp_path, trials=9), open_analytic(tmp_path, trials=9)
    (part,) = study.parts
    dead = _die_in_a_trial(study)
    reap(study, part)
    seen = part.study.get_trials(deepcopy=False)
    first = claims.claim(study, part)
    pending = claims.to_be_repeated
    monkeypatch.setattr(claims, "to_be_repeated", lambda part, _: pending(part, seen))
    assert claims.claim(other, other.parts[0]) is None
    assert first.rates == dead.params
    running = part.study.get_trials(states=(TrialState.RUNNING,))
    assert [trial.number for trial in running] == [first.trial.number]


def test_two_who_take_the_last_trial_find_out(tmp_path, monkeypatch):
    """The other one begins between this one's look at the study and its own beginning."""
    study, other = open_analytic(tmp_path, trials=1), open_analytic(tmp_path, trials=1)
    look = claims.to_be_repeated
    took = []

    def look_and_be_slow(part, trials):
        monkeypatch.setattr(claims, "to_be_repeated", look)
        took.append(claims.claim(other, other.parts[0]))
        return look(part, trials)

    monkeypatch.setattr(claims, "to_be_repeated", look_and_be_slow)
    assert claims.claim(study, study.parts[0]) is None
    claims.end(other, took[0], Outcome(1.0, pruned=False))
    assert work(study, lambda claim, epochs: 1.0) == 0
    states = [trial.state for trial in study.parts[0].study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL]


def test_one_who_dies_before_all_is_drawn_leaves_the_rates_to_the_next(tmp_path, monkeypatch):
    study = open_analytic(tmp_path, trials=3)
    (part,) = study.parts
    dead = _die_in_a_trial(study)
    reap(study, part)
    with monkeypatch.context() as patch:
        patch.setattr(optuna, "Trial", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            claims.claim(study, part)
    monkeypatch.setattr(claims, "is_gone", lambda beat: True)
    assert len(reap(study, part)) == 1
    assert claims.claim(study, part).rates == dead.params


@given(orders=st.data())
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_claims_ends_and_deaths_in_any_order_make_the_wanted_number(orders, tmp_path_factory):
    """Three workers take, end, stop or die as it comes; then one finishes the study."""
    folder = tmp_path_factory.mktemp("any_order")
    studies = [open_analytic(folder, trials=4) for _ in range(3)]
    (part,) = studies[0].parts
    held: dict[int, list] = {0: [], 1: [], 2: []}
    told = {}
    for _ in range(orders.draw(st.integers(0, 12))):
        worker = orders.draw(st.integers(0, 2))
        study = studies[worker]
        action = orders.draw(st.sampled_from(["take", "end", "stop", "die"]))
        if action == "take":
            taken = claims.claim(study, study.parts[0])
            held[worker] += [taken] if taken else []
        elif held[worker]:
            mine = held[worker].pop()
            if action == "end" and claims.end(study, mine, Outcome(1.5, pruned=False)):
                told[mine.trial.number] = 1.5
            elif action == "stop":
                claims.give_back(study, mine, goes_on=True)
            elif action == "die":
                silent = {**this_process(), "host": "elsewhere", "time": 0}
                mine.trial.set_user_attr(claims.BEAT, silent)
                reap(study, study.parts[0])
        assert len(claims.unfailed(part)) <= 4
    for worker, mine in ((w, c) for w, claimed in held.items() for c in claimed):
        claims.give_back(studies[worker], mine)
    work(studies[0], lambda claim, epochs: 1.0)
    done = {trial.number: trial.value for trial in finished(part)}
    assert len(done) == 4
    assert told.items() <= done.items()


def test_a_worker_on_another_host_is_dead_when_it_is_silent(tmp_path):
    study = open_analytic(tmp_path, trials=2, stale_seconds=60.0)
    (part,) = study.parts
    trial = _die_in_a_trial(study)
    elsewhere = {**this_process(), "host": "elsewhere", "pid": 1}
    trial.set_user_attr(claims.BEAT, {**elsewhere, "time": time.time() - 50})
    assert reap(study, part) == []
    trial.set_user_attr(claims.BEAT, {**elsewhere, "time": time.time() - 61})
    assert "no sign of life for 61 s" in reap(study, part)[0]


def test_a_process_with_the_number_of_a_dead_one_is_another(tmp_path):
    """Numbers are given again, and containers have their own: neither is taken for the worker."""
    study = open_analytic(tmp_path, trials=2)
    trial = _die_in_a_trial(study)
    mine = {**this_process(), "time": time.time()}
    trial.set_user_attr(claims.BEAT, {**mine, "namespace": "another", "started": 0})
    assert reap(study, study.parts[0]) == []
    trial.set_user_attr(claims.BEAT, {**mine, "started": mine["started"] - 5})
    assert "its process is gone" in reap(study, study.parts[0])[0]


def test_a_process_that_nobody_has_waited_for_is_gone_too(tmp_path):
    study = open_analytic(tmp_path, trials=2)
    trial = claims.claim(study, study.parts[0]).trial
    zombie = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    facts = {"pid": zombie.pid, "started": psutil.Process(zombie.pid).create_time()}
    zombie.stdout.read()  # ends with the process
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    trial.set_user_attr(claims.BEAT, {**this_process(), **facts, "time": time.time()})
    assert "its process is gone" in reap(study, study.parts[0])[0]
    zombie.wait()


def test_a_study_with_more_trials_than_are_asked_for_is_refused_and_may_get_more(tmp_path):
    work(open_analytic(tmp_path, trials=2), lambda claim, epochs: 1.0)
    with pytest.raises(ConfigError, match="a-b has 2 finished trials already"):
        open_analytic(tmp_path, trials=1)
    assert work(open_analytic(tmp_path, trials=3), lambda claim, epochs: 1.0) == 1


def test_a_worker_taken_for_dead_loses_no_result_and_makes_none_twice(tmp_path):
    """Its trial is queued while it still works: the one who takes it finds the result there."""
    study = open_analytic(tmp_path, trials=1)
    (part,) = study.parts
    slow = claims.claim(study, part)
    claims.give_back(study, slow)
    assert not claims.end(study, slow, Outcome(1.5, pruned=False))
    asked = []
    assert work(study, lambda claim, epochs: asked.append(claim) or 0.0) == 1
    assert [trial.value for trial in finished(part)] == [1.5]
    assert not asked


def test_a_worker_shows_life_while_it_works_and_ends_with_its_trial(tmp_path):
    study = open_analytic(tmp_path, trials=1, beat_seconds=0.01)
    (part,) = study.parts
    mine = claims.claim(study, part)

    def beat():
        return part.study.get_trials()[0].user_attrs[claims.BEAT]["time"]

    first = beat()
    with claims.Beats(study, mine) as beats:
        while beat() == first:
            time.sleep(0.01)
        claims.give_back(study, mine)
        beats._thread.join(60)
        assert not beats._thread.is_alive()


def test_a_stopped_trial_goes_on_in_its_folder(tmp_path):
    study = open_analytic(tmp_path, trials=1)
    seen = []

    def stopped(claim, epochs):
        seen.append((dict(claim.rates), claim.folder))
        raise StopRequested("SIGTERM")

    with pytest.raises(StopRequested):
        work(study, stopped)
    work(study, lambda claim, epochs: seen.append((dict(claim.rates), claim.folder)) or 1.0)
    assert seen[0] == seen[1]
    assert is_full(study)


def test_errors_are_tried_again_and_divergence_is_a_result(tmp_path):
    study = open_analytic(tmp_path, trials=2)
    (part,) = study.parts
    calls = []

    def objective(claim, epochs):
        calls.append(claim.trial.number)
        if len(calls) <= 3:
            raise HeadraceError("the disk is full")
        raise DivergedError("the loss is nan")

    assert work(study, objective) == 2
    first, second = finished(part)
    assert [first.value, second.value] == [0.0, 0.0]
    assert first.user_attrs["error"] == "the disk is full"
    assert second.user_attrs["error"] == "the loss is nan"
    assert len(calls) == 4


def test_a_mistake_of_the_user_ends_the_search_and_spends_no_trial(tmp_path):
    study = open_analytic(tmp_path, trials=2)
    (part,) = study.parts

    def mistake(claim, epochs):
        raise UserError("no such source")

    with pytest.raises(UserError):
        work(study, mistake)
    assert finished(part) == []
    work(study, lambda claim, epochs: 1.0)
    assert len(finished(part)) == 2


def test_a_line_that_a_dying_process_left_half_written_is_cut_off(tmp_path):
    study = open_analytic(tmp_path, trials=4)
    (part,) = study.parts
    journal = tmp_path / JOURNAL_FILE
    claims.end(study, claims.claim(study, part), Outcome(1.0, pruned=False))
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"x","tri')
    again = open_analytic(tmp_path, trials=4)
    work(again, lambda claim, epochs: 1.0)
    assert len(finished(open_analytic(tmp_path, trials=4).parts[0])) == 4


def test_the_lock_of_a_dead_process_is_broken_at_once_and_that_of_another_host_is_not(tmp_path):
    study = open_analytic(tmp_path, trials=1)
    lock = tmp_path / f"{JOURNAL_FILE}.lock"
    gone = _die_in_a_trial(study).user_attrs[claims.BEAT]
    lock.write_text(json.dumps({**gone, "host": "elsewhere"}))
    other = JournalLock(tmp_path / JOURNAL_FILE)
    other._break_if_orphaned()
    assert lock.exists()
    lock.write_text("")  # taken this moment
    other._break_if_orphaned()
    assert lock.exists()
    lock.write_text(json.dumps(gone))
    assert other.acquire()
    assert json.loads(lock.read_text()) == this_process()
    other.release()
    assert not lock.exists()


def test_pruning_stops_bad_trials_at_a_rung(tmp_path):
    pruner = {"type": "successive_halving"}
    study = open_analytic(tmp_path, trials=30, pruner=pruner)
    runs = []

    def objective(claim, epochs):
        runs.append(epochs)
        return value_of(claim.rates, epochs)

    work(study, objective)
    trials = finished(study.parts[0])
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert len(trials) == 30
    assert 10 <= len(pruned) < 30
    assert Counter(runs)[1] == 30
    assert Counter(runs)[4] == 30 - len(pruned)
    assert max(trials, key=lambda trial: trial.value).state == TrialState.COMPLETE
    assert set(BEST) > set(trials[0].params)


def test_brackets_of_hyperband_start_at_their_own_rungs(tmp_path):
    study = open_analytic(tmp_path, trials=40, pruner={"type": "hyperband"})
    runs: dict[int, list[int]] = {}

    def objective(claim, epochs):
        runs.setdefault(claim.trial.number, []).append(epochs)
        return value_of(claim.rates, epochs)

    work(study, objective)
    assert {epochs[0] for epochs in runs.values()} == {1, 2, 4}
    assert all(epochs in ([1], [1, 2], [1, 2, 4], [2], [2, 4], [4]) for epochs in runs.values())
    assert len(finished(study.parts[0])) == 40


def test_a_search_that_was_stopped_between_trials_says_so(tmp_path):
    study = open_analytic(tmp_path, trials=2)
    with pytest.raises(StopRequested):
        work(study, lambda claim, epochs: 1.0, stop_requested=lambda: True)


def test_without_waiting_a_worker_leaves_the_last_trials_to_others(tmp_path):
    study = open_analytic(tmp_path, trials=2)
    (part,) = study.parts
    claims.claim(study, part)  # this process lives: the trial is in good hands
    assert work(study, lambda claim, epochs: 1.0, wait=False) == 1
    assert not is_full(study)
