"""Sweeps: what is planned, what is started, what is skipped, and what is reported."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import main
from headrace.errors import ConfigError
from headrace.training.sweep import plan_sweep, split_values, training_command

FAKE_TRAINER = '''
"""Stands in for the launcher: writes what a run writes, or fails as it is told."""
import json, os, pathlib, signal, sys, time

words = sys.argv[1:]
overrides = dict(w.partition("=")[::2] for w in words if "=" in w and not w.startswith("-"))
folder = pathlib.Path(json.loads(overrides["headrace.output"]))
with (pathlib.Path(__file__).parent / "started.txt").open("a") as stream:
    stream.write(folder.name + "\\n")
print("fake training of", folder.name)
plan = json.loads((pathlib.Path(__file__).parent / "plan.json").read_text())
code = plan.get(folder.name, 0)
if code == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    (folder / "waiting").touch()
    time.sleep(60)
if code:
    sys.exit(code)
rate, seed = float(overrides["optimizer.params.lr"]), int(overrides.get("headrace.seed", 0))
result = {
    "stage": "only", "branch": "all", "languages": ["en"], "steps": 1, "best_step": 1,
    "validation_loss": rate + 0.01 * seed,
    "metrics": {"en": {"fine_macro_f1": 0.5 + 0.1 * seed, "coarse_macro_f1": 0.5, "micro_f1": 0.5}},
}
branch = folder / "only" / "all"
branch.mkdir(parents=True)
(branch / "result.json").write_text(json.dumps(result))
task = plan.get("task", "token_classification")
if task == "multiple_choice":
    result["metrics"] = {"en": {"accuracy": 0.5 + 0.1 * seed, "samples": 10, "chance": 0.5}}
(folder / "results.json").write_text(
    json.dumps({"run": folder.name, "task": task, "stages": [result]})
)
'''


class Workshop:
    """A sweep over a fake trainer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "sweep"
        self.trainer = folder / "fake.py"
        self.trainer.write_text(FAKE_TRAINER)
        self.plan({})
        config = {
            "train_batch_size": 8,
            "train_micro_batch_size_per_gpu": 4,
            "optimizer": {"type": "AdamW", "params": {"lr": 1.0}},
            "headrace": {
                "task": {"type": "token_classification"},
                "model": {"pretrained": "some/model"},
                "data": {"train": {"en": "en/train"}, "validation": {"en": "en/dev"}},
                "stages": [{"name": "only"}],
            },
        }
        self.config = folder / "run.json"
        self.config.write_text(json.dumps(config))
        self.grid = ["--grid", "optimizer.params.lr=0.5,0.25"]

    def plan(self, codes: dict[str, Any]) -> None:
        (self.folder / "plan.json").write_text(json.dumps(codes))

    def arguments(self, *more: str) -> list[str]:
        launcher = f"{sys.executable} {self.trainer}"
        options = ["--ds_config", str(self.config), "--output", str(self.output)]
        return ["sweep", *options, "--launcher", launcher, *self.grid, *more]

    def run(self, *more: str) -> int:
        return main(self.arguments(*more))

    @property
    def started(self) -> list[str]:
        path = self.folder / "started.txt"
        return path.read_text().split() if path.exists() else []

    @property
    def results(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.output / "sweep.json").read_text())
        return content


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_every_combination_is_run_once(workshop: Workshop) -> None:
    assert workshop.run("--seeds", "1,2,3") == 0
    names = [f"lr-{rate}_seed-{seed}" for rate in ("0.5", "0.25") for seed in (1, 2, 3)]
    assert workshop.started == names
    assert workshop.run("--seeds", "1,2,3") == 0
    assert workshop.started == names
    assert [run["status"] for run in workshop.results["runs"]] == ["finished"] * 6


def test_means_and_deviations_over_seeds(workshop: Workshop) -> None:
    assert workshop.run("--seeds", "1,2,3") == 0
    entry = workshop.results["methods"]["lr-0.25"]
    scores = [0.6, 0.7, 0.8]
    found = entry["languages"]["en"]["fine_macro_f1"]
    assert found["mean"] == pytest.approx(statistics.mean(scores))
    assert found["deviation"] == pytest.approx(statistics.stdev(scores))
    assert found["runs"] == 3
    best = workshop.results["best"]
    assert best["overall"]["method"] == "lr-0.25"
    assert best["overall"]["validation_loss"] == pytest.approx(0.27)
    assert best["branches"]["only/all"]["method"] == "lr-0.25"
    page = (workshop.output / "sweep.md").read_text()
    assert "70.00 ± 10.00" in page
    assert "6 of 6 runs are finished" in page


def test_the_selection_says_what_is_noise_and_what_it_cost(workshop: Workshop) -> None:
    assert workshop.run("--seeds", "1,2,3") == 0
    selection = workshop.results["selection"]
    assert (selection["method"], selection["run"]) == ("lr-0.25", "lr-0.25_seed-1")
    (other,) = selection["others"]
    assert other["method"] == "lr-0.5"
    # the fake trainer's losses differ by the rate alone, its scores by the seed alone
    found = other["loss_difference"]
    assert [found[name] for name in ("mean", "low", "high")] == pytest.approx([0.25] * 3)
    assert other["score_difference"]["mean"] == pytest.approx(0)
    assert other["verdict"] == "worse"
    assert selection["methods"]["lr-0.25"]["rank_hours"] > 0
    page = (workshop.output / "sweep.md").read_text()
    assert "the best method is `lr-0.25`, its best run `lr-0.25_seed-1`" in page
    assert "## Model selection" in page
    assert r"+0.2500 \[+0.2500, +0.2500\]" in page


def test_the_time_of_a_run_is_that_of_all_its_starts(workshop: Workshop) -> None:
    workshop.plan({"lr-0.5": 3})
    assert workshop.run() == 1
    attempt = workshop.output / "lr-0.5" / "sweep_attempt.json"
    first = json.loads(attempt.read_text())
    assert first["all_seconds"] == first["seconds"]
    workshop.plan({})
    assert workshop.run() == 0
    second = json.loads(attempt.read_text())
    assert second["all_seconds"] == pytest.approx(first["seconds"] + second["seconds"])
    assert workshop.results["selection"]["others"][0]["verdict"] == "one seed: not known"


def test_sweeps_of_multiple_choice_have_accuracies(workshop: Workshop) -> None:
    config = json.loads(workshop.config.read_text())
    config["headrace"]["task"] = {"type": "multiple_choice"}
    workshop.config.write_text(json.dumps(config))
    workshop.plan({"task": "multiple_choice"})
    assert workshop.run("--seeds", "1,2,3") == 0
    assert workshop.results["task"] == "multiple_choice"
    found = workshop.results["methods"]["lr-0.25"]["languages"]["en"]
    assert found["accuracy"]["mean"] == pytest.approx(0.7)
    assert found["accuracy"]["deviation"] == pytest.approx(0.1)
    page = (workshop.output / "sweep.md").read_text()
    assert "| Language | Method | Accuracy | Validation loss | Seeds |" in page
    assert "70.00 ± 10.00" in page
    assert "nats per sample" in page


def test_a_failed_run_is_recorded_and_the_sweep_goes_on(workshop: Workshop) -> None:
    workshop.plan({"lr-0.25_seed-1": 3})
    assert workshop.run("--seeds", "1,2") == 1
    assert len(workshop.started) == 4
    failed = workshop.results["runs"][2]
    assert (failed["name"], failed["status"], failed["exit_code"]) == (
        "lr-0.25_seed-1",
        "failed",
        3,
    )
    assert "fake training of lr-0.25_seed-1" in (workshop.output / failed["log"]).read_text()
    # the lower loss does not count while one of its seeds is missing
    assert workshop.results["best"]["overall"]["method"] == "lr-0.5"
    assert workshop.results["methods"]["lr-0.25"]["seeds_finished"] == 1
    workshop.plan({})
    assert workshop.run("--seeds", "1,2") == 0
    assert workshop.started[4:] == ["lr-0.25_seed-1"]
    assert workshop.results["best"]["overall"]["method"] == "lr-0.25"


def test_a_stopped_run_stops_the_sweep(workshop: Workshop) -> None:
    workshop.plan({"lr-0.5": 75})
    assert workshop.run() == 75
    assert workshop.started == ["lr-0.5"]
    assert [run["status"] for run in workshop.results["runs"]] == ["stopped", "waiting"]
    workshop.plan({})
    assert workshop.run() == 0
    assert workshop.started == ["lr-0.5", "lr-0.5", "lr-0.25"]


def test_a_stop_signal_reaches_the_run(workshop: Workshop) -> None:
    workshop.plan({"lr-0.5": "wait"})
    command = [sys.executable, "-m", "headrace.cli", *workshop.arguments()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    waiting = workshop.output / "lr-0.5" / "waiting"
    while not waiting.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=50)
    assert process.returncode == 75
    assert workshop.started == ["lr-0.5"]
    assert workshop.results["runs"][0]["exit_code"] == 75


def test_one_item_of_an_array(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.run("--item", "1") == 0
    assert workshop.started == ["lr-0.25"]
    assert [run["status"] for run in workshop.results["runs"]] == ["waiting", "finished"]
    assert workshop.run("--item", "2") == 2
    assert "Give 0 to 1" in capsys.readouterr().err


def test_nothing_is_started_by_a_dry_run_or_a_report(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workshop.run("--dry-run", "--ranks", "2") == 0
    assert "8 = 2 x 4 x 1" in capsys.readouterr().out
    assert not workshop.output.exists()
    assert workshop.run("--report-only") == 0
    assert [run["status"] for run in workshop.results["runs"]] == ["waiting", "waiting"]
    assert workshop.started == []


def test_all_mistakes_come_before_the_first_start(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.grid = ["--grid", "train_batch_size=8,10,12", "--grid", "optimizer.params.lr=0.1,-1"]
    assert workshop.run() == 2
    errors = capsys.readouterr().err.splitlines()
    assert workshop.started == []
    assert any("10" in line and "ranks x micro-batch x accumulation" in line for line in errors)
    assert any("optimizer.params.lr: " in line and "-1" in line for line in errors)
    for grid, words in {
        "optimizer.params.lr": "not KEY=V1,V2",
        "optimizer.params.lr=0.1,0.1": "a value is given twice",
        "headrace.seed=1,2": "Seeds go to --seeds",
        "optimizer.params.lrr=0.1,0.2": "Did you mean 'lr'",
    }.items():
        workshop.grid = ["--grid", grid]
        assert workshop.run() == 2
        assert words in capsys.readouterr().err
    workshop.grid = []
    assert workshop.run("--seeds", "1,x") == 2
    assert "not a list of seeds" in capsys.readouterr().err
    arguments = workshop.arguments()
    arguments[arguments.index("--launcher") + 1] = "no-such-launcher --now"
    assert main(arguments) == 2
    assert "no such program" in capsys.readouterr().err
    assert workshop.started == []


def test_a_run_folder_of_another_config_is_refused(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = plan_sweep(workshop.config, workshop.output, grid=["optimizer.params.lr=0.5,0.25"])
    item = sweep.items[0]
    item.folder.mkdir(parents=True)
    (item.folder / "config.json").write_text(json.dumps(item.config.resolved()))
    # A stage that has begun: others may be edited.
    (item.folder / item.config.headrace.stages[0].name).mkdir()
    assert workshop.run("--dry-run") == 0
    assert workshop.run("--set", "headrace.stages.0.epochs=5") == 2
    assert "lr-0.5: headrace.stages" in capsys.readouterr().err
    assert workshop.started == []


def test_names_are_readable_and_apart(workshop: Workshop) -> None:
    grid = ["optimizer.params.lr=0.5", "headrace.stages.0.learning_rate=0.1,null"]
    grid += ['headrace.model.tokenizer="a/b","a b"']
    with pytest.raises(ConfigError, match="have the same name"):
        plan_sweep(workshop.config, workshop.output, grid=grid)
    grid[-1] = "headrace.stages.0.name=a,b"
    sweep = plan_sweep(workshop.config, workshop.output, grid=grid)
    assert sweep.items[0].name == "lr-0.5_learning-rate-0.1_name-a"
    assert len({item.name for item in sweep.items}) == 4


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ("deepspeed --num_gpus {ranks}", ["--num_gpus", "3"]),
        ("torchrun --nproc-per-node={ranks}", ["--nproc-per-node=3"]),
        ("", ["-m", "headrace.cli", "train"]),
    ],
)
def test_the_command_suits_the_launcher(
    workshop: Workshop, launcher: str, expected: list[str]
) -> None:
    sweep = plan_sweep(
        workshop.config,
        workshop.output,
        grid=["train_batch_size=24"],
        ranks=3,
        launcher=launcher,
        overrides=["train_micro_batch_size_per_gpu=2"],
    )
    command = training_command(sweep, sweep.items[0])
    assert command[1 : 1 + len(expected)] == expected
    assert command.index("headrace.cli") < command.index("train")
    overrides = [command[n + 1] for n, word in enumerate(command) if word == "--set"]
    assert overrides[:2] == ["train_micro_batch_size_per_gpu=2", "train_batch_size=24"]


VALUES = st.one_of(
    st.integers(), st.booleans(), st.text(), st.lists(st.text(max_size=3), max_size=3)
)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_values_with_commas_inside_are_kept_whole(values: list[Any]) -> None:
    # a quotation mark inside a JSON text is escaped, which a value on a command line is not
    texts = [json.dumps(value) for value in values if '"' not in str(value)]
    texts = [text for text in texts if "\\" not in text]
    if texts:
        assert split_values(",".join(texts)) == texts


@pytest.mark.slow
@pytest.mark.extended
def test_real_runs_with_real_ranks(tmp_path: Path) -> None:
    """Two runs on two ranks under DeepSpeed's launcher."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from headrace.shards import Sample, ShardWriter

    url = str(tmp_path / "en")
    facts = {"id": "1", "language": "en", "tokens": ["in", "ghent"], "tags": ["O", "B-LOC"]}
    with ShardWriter(url) as writer:
        for number in range(8):
            fields = {"txt": b"in ghent", "json": json.dumps(facts).encode()}
            writer.write(Sample(f"s{number}", fields))
    backend = Tokenizer(
        models.WordLevel(vocab={"[PAD]": 0, "[UNK]": 1, "in": 2, "ghent": 3}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    )
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    network = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1}
    network |= {"num_attention_heads": 1, "intermediate_size": 8}
    config = {
        "train_batch_size": 4,
        "optimizer": {"type": "AdamW", "params": {"lr": 1.0}},
        "headrace": {
            "task": {"type": "token_classification", "labels": "conll2003"},
            "model": {"config": network, "tokenizer": str(tmp_path / "tokenizer")},
            "data": {"train": {"en": url}, "validation": {"en": url}}
            | {"cache_dir": str(tmp_path / "cache")},
            "stages": [{"name": "only"}],
        },
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps(config))
    arguments = ["sweep", "--ds_config", str(path), "--output", str(tmp_path / "sweep")]
    arguments += ["--grid", "optimizer.params.lr=1e-9,1e-2", "--ranks", "2"]
    assert main(arguments) == 0, next((tmp_path / "sweep").glob("*/sweep.log")).read_text()
    results = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert results["best"]["overall"]["method"] == "lr-1e-2"
    log = (tmp_path / "sweep" / "lr-1e-2" / "metrics.jsonl").read_text()
    assert '"world_size": 2' in log
