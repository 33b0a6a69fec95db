"""What ranks leave behind, and what of it is shown; the script of a rank runs for real."""

import os
import subprocess
from pathlib import Path

import pytest

from headrace.slurm.overview import last_error
from headrace.slurm.rank_logs import (
    HEADING,
    LINES,
    SHOWN,
    ends_of_logs,
    folder_of,
    make_folder,
    take_ended,
)

ROOT = Path(__file__).parents[2]


def run_rank(folder, rank, command, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "slurm" / "rank.sh"), "bash", "-c", command],
        env={**os.environ, "HEADRACE_RANKS": str(folder), "RANK": str(rank), **environment},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = folder_of(tmp_path, "7")
    make_folder(folder)
    return folder


def test_rank_0_prints_into_the_log_of_the_job_and_others_do_not(folder):
    host = os.uname().nodename
    first = run_rank(folder, 0, "echo hello; echo oh >&2; exit 3")
    assert (first.returncode, first.stdout) == (3, "hello\n")
    assert first.stderr == f"oh\nrank 0 on {host}: exit code 3\n"
    other = run_rank(folder, 5, "echo hello; echo oh >&2; exit 3")
    assert (other.returncode, other.stdout, other.stderr) == (3, "", "")
    log = (folder / "5.log").read_text()
    assert log == f"=== rank 5 on {host}\nhello\noh\nrank 5 on {host}: exit code 3\n"
    assert [(each.rank, each.code, each.host) for each in take_ended(folder)] == [
        (0, 3, host), (5, 3, host),
    ]  # fmt: skip
    assert take_ended(folder) == [], "those of the next start are others"


def test_a_stop_is_said_by_rank_0_alone(folder):
    assert run_rank(folder, 1, "exit 75").returncode == 75
    assert take_ended(folder) == []
    assert run_rank(folder, 0, "exit 75").stderr == ""
    ended = take_ended(folder)
    assert [each.code for each in ended] == [75]
    assert ends_of_logs(folder, ended) == ""


def test_a_rank_whose_log_cannot_be_written_prints_into_that_of_the_job(folder, tmp_path):
    finished = run_rank(tmp_path / "nowhere", 4, "echo hello")
    assert (finished.returncode, finished.stdout) == (0, "hello\n")


def test_without_a_job_a_rank_prints_as_any_program(tmp_path):
    finished = run_rank("", 4, "echo hello; exit 3")
    assert (finished.returncode, finished.stdout, finished.stderr) == (3, "hello\n", "")


def test_ranks_that_fail_in_the_same_way_are_shown_once(folder):
    for rank in (2, 3, 1):
        run_rank(folder, rank, "echo same; exit 1")
    run_rank(folder, 9, "echo killed; kill -9 $$")
    lines = ends_of_logs(folder, take_ended(folder)).splitlines()
    host = os.uname().nodename
    assert lines == [
        f"=== rank 2 on {host}: exit code 1, see {folder / '2.log'}, and in the same way "
        f"rank 3 on {host}, rank 1 on {host}",
        "same",
        f"=== ended by signals: rank 9 on {host}",
    ], "the first that failed comes first"


def test_what_is_shown_of_a_rank_is_short_and_can_be_read(folder):
    command = r"seq 500; printf 'a\rb\rlast state\n\033[31mred\033[0m\n'; exit 1"
    run_rank(folder, 1, command)
    lines = ends_of_logs(folder, take_ended(folder)).splitlines()
    assert len(lines) == LINES + 1
    assert lines[-2:] == ["last state", "red"]


def test_of_very_many_failures_some_are_shown(folder):
    for rank in range(1, 12):
        (folder / f"{rank}.log").write_text(f"{HEADING} rank {rank} on n\nerror: {rank}\n")
        (folder / f"{rank}.exit").write_text("1 n\n")
    text = ends_of_logs(folder, take_ended(folder))
    assert text.count("error: ") == SHOWN
    assert f"=== {11 - SHOWN} more ranks failed: see {folder}" in text


def test_ranks_that_were_all_killed_are_shown(folder):
    run_rank(folder, 1, "echo before; kill -9 $$")
    assert ends_of_logs(folder, take_ended(folder)).splitlines()[1] == "before"


def test_the_last_error_is_that_of_the_rank_that_failed_first(tmp_path, folder):
    log = tmp_path / "slurm" / "train-7.log"
    log.write_text(
        "[job 7, 2026-01-01] start 1\nheadrace: another rank is gone\n"
        "=== rank 3 on n2: exit code 1, see a\nValueError: broken\n"
        "=== rank 4 on n2: exit code 1, see b\nRuntimeError: because of rank 3\n"
    )
    assert last_error(tmp_path) == ("rank 3 on n2: ValueError: broken", str(log))
    with log.open("a") as file:
        file.write("[job 7, 2026-01-01] to be started again\nerror: the disk is full\n")
    assert last_error(tmp_path) == ("error: the disk is full", str(log))


def test_a_job_that_was_killed_leaves_the_errors_of_its_ranks(tmp_path, folder):
    run_rank(folder, 3, "echo 'ValueError: odd' >&2")
    text, file = last_error(tmp_path)
    assert text == f"rank 3 on {os.uname().nodename}: ValueError: odd"
    assert file == str(folder / "3.log")


def test_what_a_launcher_says_is_no_error_of_its_own(tmp_path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "7.log").write_text(
        "OSError: full\ntorch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n"
    )
    assert last_error(tmp_path)[0] == "OSError: full"
