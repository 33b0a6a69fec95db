"""Real ranks that are killed or asked to stop, and the next start."""

import json
import signal
import time

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
    finished = launcher.run(train_script, "--ds_config", str(config))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return read_losses(output)


def ranks_of(process):
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any(part.startswith("--local_rank") for part in child.cmdline())
    ]


def wait_for_step(output, step, process):
    """Wait until a step is logged, and a checkpoint lies behind the run."""
    metrics = output / "metrics.jsonl"
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, "the run ended before it was interrupted"
        if metrics.exists() and f'"step": {step},' in metrics.read_text(encoding="utf-8"):
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


@pytest.mark.parametrize("victims", ["one rank", "all"])
def test_a_killed_run_goes_on_with_the_same_losses(
    victims, write_config, launcher, train_script, read_losses, uninterrupted, tmp_path
):
    config, output = write_config(victims.replace(" ", "_"))
    log = tmp_path / "log"
    process = launcher.start(train_script, "--ds_config", str(config), log=log)
    wait_for_step(output, 23, process)
    everyone = [process, *psutil.Process(process.pid).children(recursive=True)]
    for victim in everyone if victims == "all" else ranks_of(process)[1:2]:
        victim.kill()
    assert process.wait(timeout=120) != 0
    assert not (output / "multilingual" / "all" / "result.json").exists()

    again = launcher.run(train_script, "--ds_config", str(config))
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert read_losses(output) == uninterrupted


def test_a_signal_saves_a_checkpoint_and_asks_for_a_requeue(
    write_config, launcher, train_script, read_losses, uninterrupted, tmp_path
):
    config, output = write_config("signal")
    log = tmp_path / "log"
    process = launcher.start(train_script, "--ds_config", str(config), log=log)
    wait_for_step(output, 11, process)
    ranks_of(process)[1].send_signal(signal.SIGUSR1)  # one rank alone: the others must agree
    assert process.wait(timeout=120) == 75, log.read_text()[-3000:]
    assert "stopped by a signal" in log.read_text()
    assert list((output / "multilingual" / "all" / "checkpoints").glob("step-*/COMPLETE"))

    again = launcher.run(train_script, "--ds_config", str(config))
    assert again.returncode == 0, again.stdout[-3000:]
    assert read_losses(output) == uninterrupted


def test_a_finished_run_is_not_trained_again(write_config, launcher, train_script, uninterrupted):
    config, output = write_config("uninterrupted")
    before = (output / "metrics.jsonl").read_bytes()
    finished = launcher.run(train_script, "--ds_config", str(config), ranks=1)
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
