"""A selection that was killed goes on, on as many ranks as there are, and ends the same."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headrace.cli import main
from headrace.selection.checkpoint import Checkpoint, stage_of
from headrace.selection.ranks import Ranks

WORKER = Path(__file__).parent / "workers" / "select_and_die.py"
RUNS = {
    "frank_wolfe": ("--rows", "300"),
    "exact_greedy": ("--rows", "300", "--method", "exact_greedy"),
    "quotas": ("--rows", "300", "--method", "exact_greedy", "--maximum", "b=100"),
    # more rows than the pool of the order holds, so that the order has checkpoints too
    "order": ("--rows", "1500", "--trade-off", "balanced"),
}


@pytest.fixture(scope="module")
def files(clusters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    n = 6000
    np.save(folder / "vectors.npy", clusters(n, 12, 3, mixed=True, dtype=np.float16))
    names = [f"{'ab'[number % 2]}/{number:05d}\n" for number in range(n)]
    (folder / "ids.txt").write_text("".join(names))
    return folder


def command_of(files, output, options):
    return [
        "select", "--vectors", str(files / "vectors.npy"), "--ids", str(files / "ids.txt"),
        "--output", str(output), "--checkpoint-seconds", "0", *options,
    ]  # fmt: skip


def start(files, output, options, *, die=("never", 0, 0), ranks=1):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = command_of(files, output, options)
    command = [sys.executable, str(WORKER), *map(str, die), *words]
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(
                {**several, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            )},
        )
        for rank in range(ranks)
    ]  # fmt: skip


def finish(processes):
    errors = [process.communicate(timeout=200)[1] for process in processes]
    return [process.returncode for process in processes], errors


def select(files, output, options, **how):
    """Exit codes and what was written to standard error."""
    return finish(start(files, output, options, **how))


def reached(output, stage):
    """How many passes or picks the checkpoint has behind it."""
    _, _, content = (output / ".checkpoint" / stage).read_bytes().partition(b"\n")
    arrays = np.load(io.BytesIO(content))
    return int(arrays["passes"]) if "passes" in arrays else len(arrays["positions"])


def result(output):
    report = json.loads((output / "selection.json").read_text())
    del report["seconds"], report["peak_memory_bytes"]
    return (output / "selection.parquet").read_bytes(), report


@pytest.fixture(scope="module")
def uninterrupted(files, tmp_path_factory):
    """What each of the runs gives when it is left alone."""
    found = {}

    def of(name):
        if name not in found:
            output = tmp_path_factory.mktemp("whole") / name
            assert main(command_of(files, output, RUNS[name])) == 0
            assert not (output / ".checkpoint").exists()
            found[name] = result(output)
        return found[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moment", "number"),
    [
        ("frank_wolfe", "during", 4),
        pytest.param("quotas", "after", 2, marks=pytest.mark.extended),
        pytest.param("order", "after", 40, marks=pytest.mark.extended),
    ],
)
def test_after_a_kill_the_same_command_goes_on_and_ends_the_same(
    files, uninterrupted, tmp_path, name, moment, number
):
    output = tmp_path / "selected"
    killed, _ = select(files, output, RUNS[name], die=(moment, number, 0))
    assert killed == [-signal.SIGKILL]
    assert not (output / "selection.json").exists()
    stage = name if name in ("frank_wolfe", "order") else "exact_greedy"
    before = reached(output, stage)
    # it does go on: killed again after fewer files, it is farther than before
    again, _ = select(files, output, RUNS[name], die=("after", 6 if name == "order" else 2, 0))
    assert again == [-signal.SIGKILL]
    assert reached(output, stage) > before
    codes, errors = select(files, output, RUNS[name])
    assert codes == [0], errors
    assert "not used" not in errors[0]
    assert result(output) == uninterrupted(name)
    assert not (output / ".checkpoint").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("frank_wolfe", 2, 1),
        pytest.param("exact_greedy", 1, 2, marks=pytest.mark.extended),
    ],
)
def test_another_number_of_ranks_goes_on(files, uninterrupted, tmp_path, name, before, after):
    output = tmp_path / "selected"
    codes, _ = select(files, output, RUNS[name], die=("after", 2, 0), ranks=before)
    assert codes[0] == -signal.SIGKILL
    assert (output / ".checkpoint" / name).exists()
    codes, errors = select(files, output, RUNS[name], ranks=after)
    assert codes == [0] * after, errors
    assert result(output) == uninterrupted(name)


@pytest.mark.slow
def test_when_a_rank_dies_the_others_end_with_a_message(files, tmp_path):
    output = tmp_path / "selected"
    codes, errors = select(files, output, RUNS["frank_wolfe"], die=("between", 3, 1), ranks=2)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] > 0
    assert "another process of the selection has ended" in errors[0]
    assert "Traceback" not in errors[0]
    assert not (output / "selection.json").exists()


@pytest.fixture
def stages(tmp_path):
    def make(fingerprint="0"):
        return stage_of(Checkpoint(tmp_path / "c", fingerprint, Ranks(), 0), "solver")

    return make


def test_arrays_come_back_as_they_were(stages):
    arrays = {"bits": np.arange(7, dtype=np.uint8), "bound": np.array(0.1)}
    assert stages().load() is None
    stages().save(arrays)
    found = stages().load()
    assert found is not None
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


@pytest.mark.parametrize("place", [0, 5, 60, 200, -1])
def test_a_damaged_file_is_not_used_and_a_warning_says_so(stages, tmp_path, caplog, place):
    stages().save({"weights": np.arange(10.0)})
    path = tmp_path / "c" / "solver"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert stages().load() is None
    assert "is not used" in caplog.text
    assert str(path) in caplog.text


def test_a_file_of_another_task_is_not_used_and_a_warning_says_so(stages, caplog):
    stages("one").save({"weights": np.arange(10.0)})
    assert stages("two").load() is None
    assert "it is of another selection" in caplog.text


def test_where_nothing_can_be_written_a_warning_says_so(stages, tmp_path, caplog):
    (tmp_path / "c").write_text("no folder")
    stages().save({"weights": np.arange(10.0)})
    assert "no checkpoint" in caplog.text
