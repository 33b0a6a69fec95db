"""Real ranks that are killed or asked to stop, and the next start."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

pytestmark = pytest.mark.slow

STAGES = [{"name": "multilingual", "epochs": 6}]
"""114 steps: long enough to be interrupted in the middle."""


@pytest.fixture(scope="module")
def write_config(small_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")

    def write(name):
        output = folder / name
        config = small_corpus.write_config(
            folder / f"{name}.json",
            output,
            **{"headrace.stages": STAGES, "headrace.checkpoint.every_steps": 5},
        )
        return config, output

    return write


@pytest.fixture(scope="module")
def uninterrupted(write_config, launcher, train_script, read_losses):
    config, output = write_config("uninterrupted")
    finished = launcher.run_ranks(train_script, "--ds_config", str(config))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return read_losses(output)


def ranks_of(process):
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any(part.startswith("--local_rank") for part in child.cmdline())
    ]


def wait_for_step(output, step, is_over):
    """Wait until a step is logged, and a checkpoint lies behind the run."""
    metrics = output / "metrics.jsonl"
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert not is_over(), "the run ended before it was interrupted"
        if metrics.exists() and f'"step": {step},' in metrics.read_text(encoding="utf-8"):
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


@pytest.fixture(scope="module")
def interrupted(write_config, launcher, train_script, read_losses, tmp_path_factory):
    """One run, three times interrupted: a signal to one rank, the death of one rank, that of all.

    What was found after each of them, and the losses of the run that went on to its end.
    """
    config, output = write_config("interrupted")
    log = tmp_path_factory.mktemp("interrupted") / "log"
    found = {}

    def note(name, code):
        found[name] = {
            "code": code,
            "log": log.read_text(),
            "complete": (output / "multilingual" / "all" / "result.json").exists(),
            "saved": list(
                (output / "multilingual" / "all" / "checkpoints").glob("step-*/COMPLETE")
            ),
        }

    for name, step, number in (("signal", 11, signal.SIGUSR1), ("one rank", 41, signal.SIGKILL)):
        process = launcher.start(train_script, "--ds_config", str(config), log=log)
        wait_for_step(output, step, lambda process=process: process.poll() is not None)
        ranks_of(process)[1].send_signal(number)
        note(name, process.wait(timeout=120))
    with ThreadPoolExecutor() as thread:  # a launcher would be dead too
        ranks = thread.submit(launcher.run_ranks, train_script, "--ds_config", str(config))
        wait_for_step(output, 71, ranks.done)
        launcher.forked_ranks.kill()
        note("all", ranks.result().returncode)
    finished = launcher.run_ranks(train_script, "--ds_config", str(config))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return found, read_losses(output)


@pytest.mark.parametrize("victims", ["one rank", "all"])
def test_a_killed_run_goes_on_with_the_same_losses(victims, interrupted, uninterrupted):
    found, losses = interrupted
    assert found[victims]["code"] != 0
    assert not found[victims]["complete"]
    assert losses == uninterrupted


def test_a_signal_saves_a_checkpoint_and_asks_for_a_requeue(interrupted, uninterrupted):
    """The signal reaches one rank alone: the others must agree."""
    found, losses = interrupted
    assert found["signal"]["code"] == 75, found["signal"]["log"][-3000:]
    assert "stopped by a signal" in found["signal"]["log"]
    assert found["signal"]["saved"]
    assert losses == uninterrupted


def test_a_finished_run_is_not_trained_again(write_config, launcher, train_script, uninterrupted):
    config, output = write_config("uninterrupted")
    before = (output / "metrics.jsonl").read_bytes()
    finished = launcher.run_ranks(train_script, "--ds_config", str(config), ranks=1)
    assert finished.returncode == 0
    assert "is complete" in finished.stdout + finished.stderr
    assert (output / "metrics.jsonl").read_bytes() == before


def test_a_users_mistake_has_exit_code_2_and_no_traceback(
    small_corpus, launcher, train_script, tmp_path
):
    config = small_corpus.write_config(
        tmp_path / "bad.json",
        tmp_path / "run",
        **{"train_batch_size": 15, "headrace.data.validation.en": str(tmp_path / "nowhere")},
    )
    finished = launcher.run(train_script, "--ds_config", str(config))
    text = finished.stdout + finished.stderr
    assert finished.returncode == 2, text
    assert "Traceback" not in text
    assert "nowhere" in text
    assert text.count("error: ") == len(
        {line for line in text.splitlines() if line.startswith("error: ")}
    )
    assert not (tmp_path / "run").exists()
    assert json.loads(config.read_text())["train_batch_size"] == 15
