"""A run of two ranks without a launcher: what one says and does when the other is killed."""

import subprocess
import sys
import time

import pytest

from headrace.training.distributed import free_port
from headrace.training.watch.files import end_of, heartbeats_of, jobs_of

pytestmark = pytest.mark.slow

PATIENCE = 400


@pytest.fixture(scope="module")
def killed(small_corpus, launcher, train_script, tmp_path_factory):
    """The run folder, and exit code and output of rank 0, after rank 1 was killed in training."""
    folder = tmp_path_factory.mktemp("killed")
    config = small_corpus.write_config(
        folder / "run.json",
        folder / "run",
        **{
            "headrace.stages": [{"name": "multilingual", "epochs": 500}],
            "headrace.watch": {"heartbeat_seconds": 0.2},
        },
    )
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    log = folder / "log"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(train_script), "--ds_config", str(config)],
            env={**launcher.environment, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=train_script.parents[1],
            stdout=log.open("a"),
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        end = time.monotonic() + PATIENCE
        while not any(
            (beat.step or 0) > 5
            for job in jobs_of(folder / "run")
            for beat in heartbeats_of(job)
            if beat.rank == 1
        ):
            assert time.monotonic() < end, log.read_text()
            assert ranks[1].poll() is None, log.read_text()
            time.sleep(0.05)
        ranks[1].kill()
        ranks[1].wait()
        code = ranks[0].wait(PATIENCE)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return folder / "run", code, log.read_text()


def test_the_other_rank_ends_with_a_fault(killed):
    _, code, _ = killed
    assert code == 1


def test_it_says_who_is_gone_and_where_that_was_in_one_line(killed):
    _, _, said = killed
    (line,) = [line for line in said.splitlines() if line.startswith("headrace: ")]
    assert "rank 1 on " in line
    assert "is gone, last seen in " in line
    assert "(multilingual)" in line
    assert "Start the same command again" in line
    for noise in ("Traceback", "terminate called", "c10::", "gloo"):
        assert noise not in said


def test_it_is_written_down_in_the_run_folder(killed):
    folder, _, _ = killed
    (job,) = jobs_of(folder)
    end = end_of(job)
    assert end.kind == "lost"
    assert end.rank == 0
    assert (folder / "metrics.jsonl").stat().st_size > 0
