"""Records of jobs, what they work on, and what is shown of both."""

import json
import re
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.slurm.batch import evaluate_batch, report_batch
from headrace.slurm.controller import QueuedJob
from headrace.slurm.decision import End, Start
from headrace.slurm.overview import (
    SeenBranch,
    last_error,
    seen_branches,
    seen_job,
    with_waiting_tasks,
)
from headrace.slurm.records import job_name, job_number, read_record, read_records, write_event
from headrace.slurm.work import check_command, described, files_in, newest_step, work_of
from headrace.training.checkpoint_marker import MARKER
from headrace.training.watch.files import End as WatchEnd
from headrace.training.watch.files import WatchFolder


def write_start(folder, name, step, *, job=None, code=None):
    write_event(folder, name, "start", job=job or name, nodes="n1", progress={"step": step})
    if code is not None:
        write_event(
            folder, name, "end",
            job=job or name, exit_code=code, asked=code == 75, progress={"step": step + 1},
        )  # fmt: skip


def test_a_task_of_an_array_has_a_number_of_its_own():
    array = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    assert job_number(array) == "12_3", "12 would be all of its tasks"
    assert job_number({"SLURM_JOB_ID": "7"}) == "7"
    assert job_name({"SLURM_JOB_ID": "9", "HEADRACE_JOB": "7"}) == "7", "a successor"


def test_a_record_has_all_starts(tmp_path):
    write_event(tmp_path, "7", "submitted", title="train")
    write_start(tmp_path, "7", 0, code=75)
    write_start(tmp_path, "7", 1, job="9")
    record = read_record(tmp_path, "7")
    assert record.starts == [
        Start({"step": 0}, End(75, True, {"step": 1})), Start({"step": 1}, None),
    ]  # fmt: skip
    assert record.numbers == ["7", "9"]
    assert record.submitted["title"] == "train"


def test_a_line_that_a_kill_has_torn_costs_that_line_alone(tmp_path):
    write_start(tmp_path, "7", 0, code=75)
    path = tmp_path / "slurm" / "7.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "again", "ti')
    write_start(tmp_path, "7", 1)
    record = read_record(tmp_path, "7")
    assert len(record.starts) == 2
    assert record.unreadable == 1


def test_jobs_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10", "9", "10_2", "10_1"):
        write_start(tmp_path, name, 0)
    (tmp_path / "slurm" / "notes.jsonl").touch()
    assert [record.name for record in read_records(tmp_path)] == ["9", "10", "10_1", "10_2"]


def test_tasks_that_wait_stand_in_for_their_array(tmp_path):
    write_event(tmp_path, "5", "submitted", title="sweep", tasks={"1": "a", "2": "b"})
    write_start(tmp_path, "5_2", 0)
    seen = [seen_job(one, {}, {}) for one in with_waiting_tasks(read_records(tmp_path))]
    assert [(job.name, job.title, job.starts) for job in seen] == [("5_1", "a", 0), ("5_2", "b", 1)]


@pytest.mark.parametrize(
    ("events", "queued", "accounting", "state", "detail"),
    [
        ([("stop", 0)], None, {}, "finished", ""),
        ([("stop", 2)], None, {}, "stopped", "why"),
        ([("again", 0)], ("PENDING", "BeginTime"), {}, "PENDING", "BeginTime"),
        ([], ("RUNNING", "None"), {}, "RUNNING", "on n1, 5:00 left"),
        ([], None, {}, "gone", "ended by SLURM"),
        ([], None, {"7": "NODE_FAIL"}, "gone", "NODE_FAIL"),
    ],
)
def test_what_is_shown_of_a_job(tmp_path, events, queued, accounting, state, detail):
    write_start(tmp_path, "7", 0, code=1 if events else None)
    for kind, code in events:
        write_event(tmp_path, "7", kind, job="7", reason="why", exit_code=code)
    queue = {} if queued is None else {"7": QueuedJob("7", *queued, "N/A", "5:00", "n1")}
    seen = seen_job(read_record(tmp_path, "7"), queue, accounting)
    assert (seen.state, seen.detail) == (state, detail)


def test_nothing_is_said_of_jobs_that_slurm_was_not_asked_about(tmp_path):
    write_start(tmp_path, "7", 0)
    assert seen_job(read_record(tmp_path, "7"), None, {}).state == "unknown"
    write_event(tmp_path, "7", "stop", job="7", reason="why", exit_code=2)
    assert seen_job(read_record(tmp_path, "7"), None, {}).state == "stopped"


def test_branches_under_way_and_the_time_they_need(tmp_path):
    events = [{"kind": "start", "stage": "a", "branch": "all", "steps": 100}]
    events += [
        {
            "kind": "train", "stage": "a", "branch": "all", "step": step, "time": 1000.0 + 2 * step,
            "tokens_per_s": 50.0,
        }
        for step in range(1, 41)
    ]  # fmt: skip
    events += [{"kind": "start", "stage": "b", "branch": "hi", "steps": 10}]
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"kind": "tra')
    (tmp_path / "b" / "hi").mkdir(parents=True)
    (tmp_path / "b" / "hi" / "result.json").touch()
    for step, complete in ((20, True), (30, True), (40, False)):
        folder = tmp_path / "a" / "all" / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        if complete:
            (folder / MARKER).touch()
    branches, finished = seen_branches(tmp_path)
    assert branches == (SeenBranch("a", 40, 100, 50.0, 120.0, 30),)
    assert finished == ("b/hi",)
    assert newest_step(tmp_path / "a" / "all" / "checkpoints") == 30


def test_the_last_error_of_a_run(tmp_path):
    assert last_error(tmp_path) is None
    (tmp_path / "slurm").mkdir()
    log = tmp_path / "slurm" / "train-7.log"
    log.write_text(
        "step 1\nerror: data/hi: there is no such folder\nmore\nValueError: odd\n"
        "headrace: SIGUSR1: a checkpoint is saved\nheadrace: stopped by a signal after step 9\n"
    )
    assert last_error(tmp_path) == ("ValueError: odd", str(log))
    (tmp_path / "watch" / "7").mkdir(parents=True)
    WatchFolder(tmp_path / "watch" / "7", 0).tell(WatchEnd("lost", 1, "rank 1 on n2 is gone"))
    assert last_error(tmp_path)[0] == "rank 1 on n2 is gone"


def test_progress_of_a_training_is_branches_and_checkpoints(small_corpus, tmp_path):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    words = ["python", "-m", "headrace.cli", "train", "--ds_config", str(path)]
    work = work_of(words)
    assert work.folder == load_run_config(path).output
    assert work.progress() == {"finished": 0, "of": 3, "steps": {}}
    branch = tmp_path / "run" / "multilingual" / "all"
    (branch / "checkpoints" / "step-000012").mkdir(parents=True)
    assert work.progress()["steps"] == {}, "it is not complete"
    (branch / "checkpoints" / "step-000012" / MARKER).touch()
    assert described(work.progress()) == "0 of 3 branches finished; multilingual at step 12"
    (branch / "result.json").touch()
    assert work.progress() == {"finished": 1, "of": 3, "steps": {}}
    assert work_of([*words, "--stage", "monolingual"]).progress()["of"] == 2


def test_progress_of_another_command_is_its_files(tmp_path):
    work = work_of(["bash", "x.sh"], tmp_path)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "7.log").write_text("a log is no progress")
    assert work.progress() == {"files": 0, "bytes": 0}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("four")
    assert work.progress() == files_in(tmp_path) == {"files": 1, "bytes": 4}
    with pytest.raises(ValueError, match="no folder"):
        work_of(["bash", "x.sh"])


def test_the_nodes_are_checked_for_what_they_will_work_on(small_corpus, tmp_path):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    start = ["/venv/python", "-m", "headrace.cli"]
    words = [*start, "train", "--ds_config", str(path), "--set", "headrace.seed=4", "--stage", "a"]
    expected = [*start, "check", "--ds_config", str(path), "--set", "headrace.seed=4"]
    assert check_command(words[:-2], work_of(words[:-2])) == expected
    other = ["bash", "x.sh"]
    expected = ["python", "-m", "headrace.cli", "check", "--folder", str(tmp_path)]
    assert check_command(other, work_of(other, tmp_path)) == expected


def test_a_check_is_made_once(small_corpus, tmp_path):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    work = work_of(["python", "-m", "headrace.cli", "check", "--ds_config", str(path)])
    assert work.once
    assert work.folder == tmp_path / "run"
    assert work_of(["python", "-m", "headrace.cli", "check"]).folder == Path("runs/check")
    assert "nothing" in described(work.progress())


def test_a_run_is_shown_where_there_is_no_slurm(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["jobs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "SLURM was not asked: there is no program squeue here" in printed
    assert "no jobs were submitted for this folder" in printed
    write_event(tmp_path, "7", "submitted", title="train")
    write_start(tmp_path, "7", 0, code=2)
    write_event(tmp_path, "7", "stop", job="7", reason="the input is wrong", exit_code=2)
    assert main(["jobs", str(tmp_path)]) == 0
    assert re.search(r"7 +train +stopped +the input is wrong +1\n", capsys.readouterr().out)
    assert main(["jobs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"][0]["state"] == "stopped"
    assert main(["jobs", str(tmp_path / "nowhere")]) == 2


def test_every_job_of_a_chain_keeps_its_records_in_the_run_folder(small_corpus, tmp_path):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    config = load_run_config(path)
    for batch in (evaluate_batch(config), report_batch(config)):
        words = ["python", "-m", "headrace.cli", batch.template, *batch.arguments]
        work = work_of(words)
        assert work.folder == config.output
        assert work.progress()["files"] >= 0
