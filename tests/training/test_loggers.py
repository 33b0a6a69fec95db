"""Loggers with the real thing: W&B offline, MLflow in a database and behind a real server."""

import fcntl
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest

from headrace.config import load_run_config
from headrace.config.logging import LoggingConfig, MlflowConfig, WandbConfig
from headrace.errors import UserError
from headrace.training.callbacks import Callbacks
from headrace.training.loggers import registry
from headrace.training.loggers.background import Background, Destination
from headrace.training.loggers.logged_run import LoggedRun
from headrace.training.loggers.scalars import scalars
from headrace.training.loggers.secrets import without_secrets
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

START = {"kind": "start", "stage": "s", "branch": "all", "step": 0, "steps": 40, "world_size": 2}
SECRETS = ("hunter2", "AKIASIGNED", "not-for-you")


def train(step, **more):
    return {
        "kind": "train", "stage": "s", "branch": "all", "step": step, "epoch": step / 20,
        "loss": 1 / step, "penalty": None, "learning_rate": 0.1, "learning_rates": {"head": 0.2},
        "tokens_per_s": 100.0, "memory_allocated": None, "memory_resident": 2_500_000_000,
        "time": 1.7e9, **more,
    }  # fmt: skip


def validation(step):
    return {
        "kind": "validation", "stage": "s", "branch": "all", "step": step, "epoch": step / 20,
        "loss": 0.5, "loss_by_language": {"hi": 0.6}, "metrics": {"hi": {"micro_f1": 0.25}},
        "best": True, "time": 1.7e9,
    }  # fmt: skip


@pytest.fixture
def logged(tmp_path):
    config = {
        "optimizer": {"type": "AdamW", "params": {"lr": 0.1}},
        "headrace": {
            "model": {"pretrained": "https://reader:hunter2@models.example/x?sig=AKIASIGNED"},
            "api_key": "not-for-you",
        },
    }
    facts = {"config": without_secrets(config), "environment": {"torch": "2.13"}}
    folder = tmp_path / "run" / "s" / "all"
    folder.mkdir(parents=True)
    return LoggedRun("my run", "s", tmp_path / "run", folder, {"micro_f1": "F1"}, facts)


def log(logger, steps, *, first=0, validations=(), complete=None):
    """One start of a run: every step is trained, every second one logged."""
    with Callbacks([logger]) as callbacks:
        callbacks.on_start({**START, "steps": complete or START["steps"]}, first)
        for step in steps:
            # what is trained a second time has another time
            moment = {"time": 1.7e9 + 1000 * first + step}
            callbacks.on_step(train(step, **moment), logged=step % 2 == 0)
            if step in validations:
                callbacks.on_validation(validation(step) | moment)


def all_bytes(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# Names, secrets, missing packages


def test_numbers_have_names_by_kind_group_and_language():
    assert scalars(train(4, loss_scale=None)) == {
        "train/epoch": 0.2, "train/loss": 0.25, "train/learning_rate": 0.1,
        "learning_rate/head": 0.2, "train/tokens_per_s": 100.0, "train/memory_resident": 2.5e9,
    }  # fmt: skip
    assert scalars(validation(20)) == {
        "validation/epoch": 1.0, "validation/loss": 0.5, "validation_loss/hi": 0.6,
        "validation_micro_f1/hi": 0.25,
    }  # fmt: skip


def test_secrets_are_taken_out_and_the_rest_stays():
    value = {
        "url": "s3://key:hunter2@bucket/x", "signed": "https://host/a?X-Amz-Signature=AKIASIGNED",
        "list": ["postgresql://u:hunter2@db/x"], "api_key": "not-for-you", "lr": 0.1,
        "plain": "s3://bucket/x@v2", "hub_token": "hunter2", "max_tokens": 5, "none": None,
    }  # fmt: skip
    hidden = without_secrets(value)
    assert not any(secret in json.dumps(hidden) for secret in SECRETS)
    assert hidden["plain"] == "s3://bucket/x@v2"
    assert hidden["signed"] == "https://host/a?***"
    assert (hidden["lr"], hidden["max_tokens"], hidden["none"]) == (0.1, 5, None)


@pytest.mark.parametrize("extra", ["wandb", "mlflow"])
def test_a_missing_package_is_an_error_that_names_the_extra(extra, monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    settings = LoggingConfig.model_validate({extra: {}})
    with pytest.raises(UserError, match=rf"headrace\.logging\.{extra}.*headrace\[{extra}\]"):
        registry.check_loggers(settings)
    registry.check_loggers(LoggingConfig())


SPOKEN = """
class Spoken:
    def __init__(self, voice, title):
        self.voice, self.title = voice, title

    def on_start(self, record, first_step): ...

    def on_step(self, record, *, logged):
        if logged:
            print(f"{self.voice} says: {self.title}, step {record['step']}")

    def on_validation(self, record): ...

    def close(self): ...


def make(settings, run):
    return Spoken(settings["voice"], run.title)
"""


def test_another_package_brings_a_logger(tmp_path, monkeypatch, logged, capsys):
    package = tmp_path / "site"
    facts = package / "spoken-1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: spoken\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(
        "[headrace.loggers]\nspoken = spoken_logger:make\nbroken = spoken_logger:missing\n"
    )
    (package / "spoken_logger.py").write_text(SPOKEN)
    monkeypatch.syspath_prepend(str(package))
    settings = LoggingConfig(plug_ins={"spoken": {"voice": "low"}}, tensorboard=False)
    registry.check_loggers(settings)
    log(registry.make_loggers(settings, logged)[-1], range(1, 5))
    assert capsys.readouterr().out == "low says: s, step 2\nlow says: s, step 4\n"
    with pytest.raises(UserError) as caught:
        registry.check_loggers(LoggingConfig(plug_ins={"broken": {}, "absent": {}}))
    assert [problem.where for problem in caught.value.problems] == [
        "headrace.logging.plug_ins.broken",
        "headrace.logging.plug_ins.absent",
    ]
    assert "Installed: broken, spoken" in str(caught.value)


def test_a_password_in_the_address_of_a_server_is_refused():
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_URI"):
        MlflowConfig(tracking_uri="https://me:hunter2@mlflow.example")
    MlflowConfig(tracking_uri="sqlite:////data/mlflow.db")


# Weights & Biases


@pytest.fixture
def wandb():
    """The package, without what it remembers of the environment."""
    package = pytest.importorskip("wandb")
    package.teardown()
    yield package
    package.teardown()


def wandb_records(path):
    """Read a W&B transaction log: LevelDB's log format, with a protobuf message a record."""
    from wandb.proto import wandb_internal_pb2

    data, at, message = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            message = b""
            yield record


def wandb_runs(folder):
    """The offline runs of a folder, oldest first: id, config, history by step, exit code."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        run = {"history": {}}
        for record in wandb_records(path):
            match record.WhichOneof("record_type"):
                case "run":
                    run["id"], run["group"] = record.run.run_id, record.run.run_group
                    run["project"] = record.run.project
                    run["config"] = {
                        item.key: json.loads(item.value_json) for item in record.run.config.update
                    }
                case "history":
                    step = record.history.step.num
                    assert step not in run["history"]
                    run["history"][step] = {
                        item.key or "/".join(item.nested_key): json.loads(item.value_json)
                        for item in record.history.item
                    }
                case "exit":
                    run["exit"] = record.exit.exit_code
        found.append(run)
    return found


@pytest.mark.slow
def test_wandb_offline_goes_on_with_the_same_run_and_doubles_no_step(wandb, logged, monkeypatch):
    from headrace.training.loggers.wandb_runs import WandbRun

    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = WandbConfig(project="tests")
    log(Background(WandbRun(settings, logged)), range(1, 26), validations=[20])
    time.sleep(1.1)  # names of offline runs have the second in them
    # the checkpoint was of step 20: steps 21 to 25 come a second time
    log(Background(WandbRun(settings, logged)), range(21, 41), first=20, validations=[40])
    wandb.teardown()  # as at the end of a process: its own process writes the last records
    first, second = wandb_runs(logged.output)
    assert (
        first["id"] == second["id"] == json.loads((logged.folder / "wandb.json").read_text())["id"]
    )
    assert (first["project"], first["group"]) == ("tests", "my run")
    assert list(first["history"]) == list(range(2, 25, 2))
    assert list(second["history"]) == list(range(26, 41, 2))
    assert first["history"][20]["train/loss"] == 1 / 20
    assert first["history"][20]["validation_micro_f1/hi"] == 0.25
    assert second["history"][40]["validation/loss"] == 0.5
    assert (first["exit"], second["exit"]) == (1, 0)
    assert first["config"]["config"]["optimizer"]["params"]["lr"] == 0.1
    assert first["config"]["environment"] == {"torch": "2.13"}
    assert first["config"]["branch"]["world_size"] == 2
    written = all_bytes(logged.output)
    assert not any(secret.encode() in written for secret in SECRETS)


KILLED = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from headrace.config.logging import WandbConfig
    from headrace.training.loggers.background import Background
    from headrace.training.loggers.logged_run import LoggedRun
    from headrace.training.loggers.wandb_runs import WandbRun
    output, folder = Path(sys.argv[1]), Path(sys.argv[2])
    logger = Background(WandbRun(WandbConfig(), LoggedRun("my run", "s", output, folder, {}, {})))
    logger.on_start({"kind": "start", "stage": "s", "branch": "all", "steps": 40}, 0)
    for step in range(1, 26):
        record = {"kind": "train", "step": step, "loss": 1 / step, "time": 1.0}
        logger.on_step(record, logged=step % 2 == 0)
    time.sleep(600)
    """
)


@pytest.mark.slow
def test_what_was_logged_before_kill_9_is_there_and_goes_on(wandb, logged, monkeypatch):
    from headrace.training.loggers.wandb_runs import WandbRun

    monkeypatch.setenv("WANDB_MODE", "offline")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(logged.output), str(logged.folder)]
    )
    end = time.monotonic() + 120
    # W&B's own process writes by the second, and step 24 when a later one comes
    while time.monotonic() < end:
        found = wandb_runs(logged.output)
        if found and 22 in found[0]["history"]:
            break
        time.sleep(0.2)
    process.kill()
    process.wait()
    log(Background(WandbRun(WandbConfig(), logged)), range(21, 41), first=20)
    wandb.teardown()
    first, second = wandb_runs(logged.output)
    assert first["id"] == second["id"]
    assert "exit" not in first
    assert [*first["history"], *second["history"]] == list(range(2, 41, 2))


@pytest.mark.slow
def test_wandb_without_a_server_is_written_offline(wandb, logged, monkeypatch, caplog):
    from headrace.training.loggers import wandb_runs as module

    monkeypatch.setattr(module, "_INIT_TIMEOUT", 2.0)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    log(Background(module.WandbRun(WandbConfig(mode="online"), logged)), range(1, 41))
    wandb.teardown()
    assert "connection refused" in caplog.text
    assert "the run is written offline" in caplog.text
    (run,) = [run for run in wandb_runs(logged.output) if run["history"]]
    assert list(run["history"]) == list(range(2, 41, 2))


# MLflow


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pytest.importorskip("sqlalchemy")
    return pytest.importorskip("mlflow")


def steps_of(client, run_id, name):
    return [metric.step for metric in client.get_metric_history(run_id, name)]


@pytest.mark.slow
def test_mlflow_goes_on_with_the_same_run_and_doubles_no_step(logged, mlflow):
    from headrace.training.loggers.mlflow_runs import MlflowRun

    settings = MlflowConfig(experiment="tests")
    log(Background(MlflowRun(settings, logged)), range(1, 26), validations=[20])
    client = mlflow.MlflowClient(f"sqlite:///{logged.output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tests").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "KILLED"
    log(Background(MlflowRun(settings, logged)), range(21, 41), first=20, validations=[20, 40])
    (run,) = client.search_runs([experiment])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my run s")
    assert steps_of(client, run.info.run_id, "train/loss") == list(range(2, 41, 2))
    assert steps_of(client, run.info.run_id, "validation_micro_f1/hi") == [20, 40]
    assert run.data.metrics["train/loss"] == 1 / 40
    assert run.data.params["config.optimizer.params.lr"] == "0.1"
    assert run.data.params["environment.torch"] == "2.13"
    assert run.data.params["branch.world_size"] == "2"
    assert run.data.tags["headrace.stage"] == "s"
    written = all_bytes(logged.output)
    assert not any(secret.encode() in written for secret in SECRETS)


class Server:
    """A real MLflow server."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.store = f"sqlite:///{folder / 'server.db'}"
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1",
            "--backend-store-uri", self.store, "--port", str(self.port),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the server did not start")

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.mark.extended
@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_gets_every_step(logged, mlflow, tmp_path, caplog):
    pytest.importorskip("flask", reason="mlflow-skinny alone has no server")
    from headrace.training.loggers.mlflow_runs import MlflowRun

    server = Server(tmp_path)
    server.start()
    try:
        settings = MlflowConfig(tracking_uri=server.address)
        logger = Background(MlflowRun(settings, logged), pause=0.5, patience=60)
        with Callbacks([logger]) as callbacks:
            callbacks.on_start(START, 0)
            callbacks.on_step(train(10), logged=True)
            client = mlflow.MlflowClient(server.address)
            while not (logged.folder / "mlflow.json").exists():
                time.sleep(0.1)
            run_id = json.loads((logged.folder / "mlflow.json").read_text())["id"]
            while steps_of(client, run_id, "train/loss") != [10]:
                time.sleep(0.1)
            server.stop()
            began = time.monotonic()
            callbacks.on_step(train(20), logged=True)
            callbacks.on_step(train(30), logged=True)
            assert time.monotonic() - began < 1  # training does not wait
            while "training goes on" not in caplog.text:
                time.sleep(0.1)
            server.start()
            callbacks.on_step(train(40), logged=True)
        assert steps_of(client, run_id, "train/loss") == [10, 20, 30, 40]
        assert client.get_run(run_id).info.status == "FINISHED"
        assert "answers again" in caplog.text
    finally:
        server.stop()


# A whole run


class Crash(StopFlag):
    """Looked at once a step; breaks the run in the middle of one."""

    asked = False

    def __init__(self, looks):
        self.looks = looks

    @property
    def received(self):
        self.looks -= 1
        if self.looks < 0:
            raise RuntimeError("a crash")


@pytest.mark.slow
def test_a_run_that_crashes_goes_on_in_its_runs_of_wandb_and_mlflow(
    wandb, mlflow, small_corpus, world, tmp_path, monkeypatch
):
    """Steps 5 to 7 are trained twice: the checkpoint was of step 4."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    path = small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "out",
        **{
            "headrace.stages": [{"name": "one", "max_steps": 10, "keep_best": "last"}],
            "headrace.checkpoint.every_steps": 4,
            "headrace.logging.wandb": {"project": "tests"},
            "headrace.logging.mlflow": {"experiment": "tests"},
        },
    )
    config = load_run_config(path)
    with pytest.raises(RuntimeError, match="a crash"):
        train_in_group(config, expand_stages(config), world, Crash(7))
    time.sleep(1.1)  # names of offline runs have the second in them
    train_in_group(config, expand_stages(config), world, StopFlag())
    wandb.teardown()

    lines = [json.loads(line) for line in (config.output / "metrics.jsonl").open()]
    losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
    assert list(losses) == list(range(1, 11))
    (start,) = (line for line in lines if line["kind"] == "start")

    first, second = wandb_runs(config.output)
    assert first["id"] == second["id"]
    assert [*first["history"], *second["history"]] == list(losses)
    history = {**first["history"], **second["history"]}
    assert {step: row["train/loss"] for step, row in history.items()} == losses
    assert second["history"][10]["train/step_seconds_p50"] > 0
    assert first["config"]["config"]["headrace"]["task"]["type"] == "token_classification"
    assert first["config"]["branch"]["data_fingerprint"] == start["data_fingerprint"]

    client = mlflow.MlflowClient(f"sqlite:///{config.output / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    found = client.get_metric_history(run.info.run_id, "train/loss")
    assert {metric.step: metric.value for metric in found} == losses
    assert len(found) == len(losses)
    assert run.info.status == "FINISHED"
    assert run.data.params["config.headrace.seed"] == str(config.headrace.seed)
    assert run.data.params["branch.config_fingerprint"] == start["config_fingerprint"]


def test_a_run_without_the_package_of_a_logger_leaves_no_trace(
    small_corpus, world, tmp_path, monkeypatch
):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "out", **{"headrace.logging.wandb": {}}
    )
    config = load_run_config(path)
    with pytest.raises(UserError, match=r"headrace\[wandb\]"):
        train_in_group(config, expand_stages(config), world, StopFlag())
    assert not config.output.exists()


# What fails


class Broken(Destination):
    """Fails for a while, or for ever."""

    name = "broken"

    def __init__(self, failures):
        self.failures = failures
        self.sent = []

    def open(self, record):
        self.sent.append("open")

    def send(self, record):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody there")
        self.sent.append(record["step"])

    def close(self, *, complete):
        self.sent.append("close")


def test_what_fails_is_tried_again_with_one_warning(caplog):
    destination = Broken(failures=3)
    log(Background(destination, pause=0.01), range(1, 9), complete=8)
    assert destination.sent == ["open", 2, 4, 6, 8, "close"]
    assert caplog.text.count("nobody there") == 1


def test_what_never_answers_costs_a_warning_and_not_the_run(caplog):
    destination = Broken(failures=10**9)
    log(Background(destination, pause=0.01, patience=0.2), range(1, 9))
    assert destination.sent == ["open"]
    assert "not all of the records were sent" in caplog.text


def test_training_that_goes_back_is_sent_by_the_same_logger():
    destination = Broken(failures=0)
    with Callbacks([Background(destination)]) as callbacks:
        callbacks.on_start(START, 0)
        callbacks.on_step(train(4), logged=True)
        callbacks.restart(START, 2)
        callbacks.on_step(train(4), logged=True)
    assert destination.sent == ["open", 4, "close", "open", 4, "close"]


def test_a_callback_that_fails_in_the_middle_does_not_stop_the_others(caplog):
    class Failing:
        def on_start(self, record, first_step):
            pass

        def on_step(self, record, *, logged):
            raise OSError(28, "No space left on device")

        on_validation = on_start

        def close(self):
            pass

    seen = Broken(failures=0)
    with Callbacks([Failing(), Background(seen)]) as callbacks:
        callbacks.on_start(START, 0)
        callbacks.on_step(train(2), logged=True)
        callbacks.on_step(train(4), logged=True)
    assert seen.sent == ["open", 2, 4, "close"]
    assert caplog.text.count("No space left on device") == 1


# The console

SHOW = textwrap.dedent(
    """
    import sys, time
    from headrace.training.loggers.console import Console
    console = Console("stage/hi", {"micro_f1": "F1"}, seconds=float(sys.argv[1]))
    console.on_start({"steps": 40}, 20)
    for step in range(21, 41):
        record = {
            "step": step, "loss": 1 / step, "learning_rate": 1e-4, "tokens_per_s": 12345.6,
            "memory_allocated": None, "memory_resident": 2_500_000_000,
        }
        time.sleep(0.02)  # a bar is drawn ten times a second
        console.on_step(record if step % 5 == 0 else {"step": step}, logged=step % 5 == 0)
    console.on_validation({"metrics": {"hi": {"micro_f1": 0.25}}, "best": True, "epoch": 2.0,
                           "loss": 0.5})
    console.close()
    """
)


def shown_in_pipe(seconds):
    command = [sys.executable, "-c", SHOW, str(seconds)]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout + done.stderr


def test_a_batch_log_has_whole_lines_and_no_carriage_return():
    output = shown_in_pipe(0)
    assert b"\r" not in output
    assert b"\x1b" not in output
    *steps, scores = output.decode().splitlines()
    assert [re.search(r"step (\d+)/40", line)[1] for line in steps] == ["25", "30", "35", "40"]
    assert re.fullmatch(
        r"stage/hi: step 30/40 \(75%\), loss 0\.0333, lr 1\.00e-04, 12,346 tokens/s, 2\.5 GB, "
        r"\d\d:\d\d left",
        steps[1],
    )
    assert scores == "stage/hi: epoch 2, validation loss 0.5000, F1 0.2500 (best so far)"


def test_lines_come_at_intervals_and_the_last_step_always():
    output = shown_in_pipe(3600)
    assert re.findall(rb"step (\d+)/40", output) == [b"25", b"40"]


def test_a_terminal_gets_a_bar():
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, "0"], stdin=other, stdout=other, stderr=other,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(other)
    output = b""
    while True:
        ready, _, _ = select.select([main], [], [], 60)
        try:
            part = os.read(main, 4096) if ready else b""
        except OSError:  # Linux: the other end is closed
            part = b""
        if not part:
            break
        output += part
    assert process.wait(60) == 0
    os.close(main)
    assert output.count(b"\r") > output.count(b"\n")
    assert b"100%" in output
    assert b"40/40" in output
    assert b"step 25/40 (" not in output
    assert b"validation loss 0.5000, F1 0.2500" in output
