"""``headrace plan``: numbers that are those of the stream, pictures, and a fast start."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.shards.reader import ShardReader
from headrace.stream.batching import BatchPlan
from headrace.stream.plan import StagePlan
from headrace.stream.sources import stream_source
from headrace.training.order import plan_branch
from headrace.training.stages import expand_stages


def plan_of(path: Path, number: int = 0) -> StagePlan:
    """The plan of a branch as training makes it."""
    config = load_run_config(path)
    branch = expand_stages(config)[number]
    train = config.headrace.data.train
    sources = [stream_source(name, ShardReader(train[name])) for name in branch.languages]
    return plan_branch(branch, sources, config.headrace.seed)


def document_of(path: Path, tmp_path: Path, *words: str) -> dict:
    assert main(["plan", str(path), "--json", str(tmp_path / "plan.json"), *words]) == 0
    return json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))


def test_the_numbers_are_those_of_the_stream(run_config, small_corpus, tmp_path):
    plan = plan_of(run_config)
    epochs = [plan.locate(epoch, np.arange(plan.samples_per_epoch)) for epoch in range(4)]
    document = document_of(run_config, tmp_path)
    (stage, *others) = document["branches"]
    assert [(each["stage"], each["branch"]) for each in document["branches"]] == [
        ("multilingual", "all"), ("monolingual", "en"), ("monolingual", "zh"),
    ]  # fmt: skip
    assert (stage["samples_per_epoch"], stage["samples"]) == (300, 1200)
    for stretch, epoch in zip(stage["mix"], epochs, strict=True):
        assert stretch["drawn"] == np.bincount(epoch.source, minlength=3).tolist()
    for number, source in enumerate(stage["sources"]):
        times = Counter(
            (int(epoch.shard[place]), int(epoch.sample[place]))
            for epoch in epochs
            for place in np.flatnonzero(epoch.source == number)
        )
        reader = ShardReader(small_corpus.source(source["name"], "train"))
        assert source["drawn"] == sum(times.values())
        assert source["repeated"] == source["drawn"] - len(times)
        assert source["unseen"] == len(reader) - len(times)
        assert source["passes"] == pytest.approx(source["drawn"] / len(reader))
        assert source["bytes"] == sum(shard.bytes for shard in reader.manifest.shards)
        assert source["open_shards"] == len(reader.manifest.shards)
    assert stage["cache_bytes"]["all"] == sum(source["bytes"] for source in stage["sources"])
    assert stage["cache_bytes"]["windows"] == stage["cache_bytes"]["all"]
    assert all(each["sources"][0]["passes"] == 1 for each in others)


def test_edges_are_phases_and_epoch_limits(run_config, tmp_path):
    (stage, *_) = document_of(run_config, tmp_path, "--stage", "multilingual")["branches"]
    places = {(edge["phase"], edge["exhausted"]): edge["position"] for edge in stage["edges"]}
    assert places[1, None] == 0
    assert places[2, None] == 450
    assert places[3, None] == 600
    limits = {source["name"]: source["limit"] for source in stage["sources"]}
    assert limits == {"en": None, "hi": 225, "zh": 180}
    exhausted = {source["name"]: source["exhausted_at"] for source in stage["sources"]}
    assert exhausted["hi"] is None
    assert exhausted["zh"] == next(
        edge["position"] for edge in stage["edges"] if edge["exhausted"] == "zh"
    )
    counts = plan_of(run_config).stage_mixture.counts
    assert counts(exhausted["zh"])[2] == 180
    assert counts(exhausted["zh"] - 1)[2] == 179


def test_the_text_shows_the_mix_and_what_it_needs(run_config, capsys):
    assert main(["plan", str(run_config), "--stage", "multilingual"]) == 0
    out = capsys.readouterr().out
    # 18 batches of 16 and one of 12 an epoch.
    assert out.startswith("multilingual: 4 epochs of 300 samples, 76 batches of 16\n")
    bars = [line.split()[-1] for line in out.splitlines() if " to " in line]
    assert len(bars) == 4
    assert all(len(bar) == 48 for bar in bars)
    assert set(bars[0]) == {"a", "b", "c"}
    assert set(bars[3]) <= {"a", "c"}
    assert "position 450 (epoch 1.5): phase 2 begins\n    en 40.0%" in out
    assert "zh has been gone through as often as it may" in out
    assert "  64 samples in a row lie in 9 shards at most; a cache needs" in out
    assert "2.5" in next(line for line in out.splitlines() if line.startswith("  b  hi"))


def test_few_epochs_and_many_are_shown_in_tenths(run_config, tmp_path):
    for words in (["--set", "headrace.stages.0.epochs=40"], ["--stage", "monolingual"]):
        stage = document_of(run_config, tmp_path, *words)["branches"][0]
        assert len(stage["mix"]) == 10
        assert stage["mix"][-1]["end"] == stage["samples"]


def test_batches_that_differ_in_size_are_not_counted(run_config, tmp_path, capsys):
    words = ["--stage", "multilingual", "--set", "headrace.batching.type=packed"]
    (stage,) = document_of(run_config, tmp_path, *words)["branches"]
    assert (stage["batch_size"], stage["window"]) == (None, 1024)
    assert capsys.readouterr().out.startswith("multilingual: 4 epochs of 300 samples\n")


def test_steps_may_end_a_stage_before_its_phases(run_config, tmp_path, capsys):
    words = ["--set", "headrace.stages.0.max_steps=20", "--stage", "multilingual"]
    (stage,) = document_of(run_config, tmp_path, *words)["branches"]
    batches = BatchPlan(plan_of(run_config), [], batch_size=16, sort_by_length=False)
    assert stage["samples"] == batches.position(20) == 300 + 16
    assert stage["phases_not_reached"] == [{"phase": 2, "start": 450}, {"phase": 3, "start": 600}]
    assert "phase 3 would begin at position 600: the stage is over before" in (
        capsys.readouterr().out
    )


def test_pictures_have_the_format_of_their_name(run_config, tmp_path):
    for suffix in ("svg", "png", "html"):
        words = ["plan", str(run_config), "--plot"]
        assert main([*words, str(tmp_path / f"one.{suffix}")]) == 0
        assert main([*words, str(tmp_path / f"two.{suffix}")]) == 0
        content = (tmp_path / f"one.{suffix}").read_bytes()
        assert content == (tmp_path / f"two.{suffix}").read_bytes()
    texts = ElementTree.parse(tmp_path / "one.svg").getroot().itertext()
    shown = {text.strip() for text in texts}
    assert {"en", "hi", "zh", "phase 2", "phase 3", "zh used up"} <= shown
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG\r\n")
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "multilingual: 4 epochs of 300 samples" in page


def test_a_picture_without_matplotlib_names_the_extra(run_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plan", str(run_config), "--plot", str(tmp_path / "plan.svg")]) == 2
    captured = capsys.readouterr()
    assert "pip install 'headrace[report]'" in captured.err
    assert captured.out == ""
    assert main(["plan", str(run_config)]) == 0


@pytest.mark.parametrize(
    "command", [["plan"], ["preview", "--stage", "multilingual", "--epoch", "1"]]
)
def test_the_command_needs_no_torch(run_config, command):
    code = (
        "import sys\n"
        "from headrace.cli import main\n"
        f"code = main({[command[0], str(run_config), *command[1:]]!r})\n"
        "heavy = {'torch', 'deepspeed', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_a_plan_that_training_would_refuse_is_shown_and_refused(run_config, tmp_path, capsys):
    words = ["--set", "headrace.stages.0.mixture.max_epochs=3", "--json", str(tmp_path / "x")]
    assert main(["plan", str(run_config), *words]) == 2
    captured = capsys.readouterr()
    assert "and the stage ends" in captured.out
    (line,) = captured.err.splitlines()
    assert line.startswith("error: stage multilingual: epochs: the stage ends after")
    (stage, *_) = json.loads((tmp_path / "x").read_text())["branches"]
    assert stage["refused"] == [line.removeprefix("error: ")]


def test_mistakes_are_told_together_and_before_any_work(run_config, tmp_path, capsys):
    words = ["--stage", "multilingal", "--plot", str(tmp_path / "x.pdf"), "--json", str(tmp_path)]
    assert main(["plan", str(run_config), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["--json", "--plot", "--stage"]
    assert ".svg, .png, .html" in lines[1]
    assert "Did you mean 'multilingual'?" in lines[2]
    missing = ["--set", f"headrace.data.train.hi={tmp_path}/none"]
    impossible = ["--set", "headrace.stages.0.mixture.max_share=0.2"]
    assert main(["plan", str(run_config), *missing]) == 2
    assert "none" in capsys.readouterr().err
    assert main(["plan", str(run_config), *impossible]) == 2
    assert "the largest shares add up to less than 1" in capsys.readouterr().err


def test_the_plan_of_a_language_model_is_one_of_texts(small_corpus, tmp_path, capsys):
    """How many batches there are is known after encoding."""
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.task": {"type": "masked_lm"}}
    )
    assert main(["plan", str(path), "--stage", "multilingual"]) == 0
    printed = capsys.readouterr().out
    assert "samples: texts" in printed
    assert "batches of" not in printed
