"""``headrace plan --simulate``: tables, the recommended interval, options and their errors."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import hjson
import pytest

from headrace.cli import main
from headrace.config.checkpoint import CheckpointConfig
from headrace.planning.checkpoint_size import (
    CheckpointSize,
    Storage,
    copy_seconds,
    load_seconds,
    write_seconds,
)
from headrace.planning.failures import daly_interval


@pytest.fixture
def plan(tmp_path, capsys):
    """Runs the command; returns its code, what it printed, and the simulation of its JSON."""

    def run(*options: str) -> tuple[int, str, str, dict]:
        path = tmp_path / "plan.json"
        code = main(["plan", *options, "--json", str(path)])
        captured = capsys.readouterr()
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return code, captured.out, captured.err, document.get("simulation", {})

    return run


ALONE = (
    "--simulate", "--nodes", "64", "--save", "60", "--copy", "6", "--step", "0.5", "--work", "100",
    "--draws", "60",
)  # fmt: skip


def test_without_a_config_the_options_say_what_the_job_is(plan, tmp_path):
    figure = tmp_path / "goodput.svg"
    words = (*ALONE, "--nodes", "512", "--mtbf", "5000", "--goodput-plot", str(figure))
    code, out, _, found = plan(*words)
    assert code == 0
    few, many = found["jobs"]
    assert (few["nodes"], many["nodes"]) == (64, 512)
    assert few["mtbf"] == pytest.approx(5000 * 3600 / 64)
    for job in (few, many):
        saving = job["saving"]["synchronous"]
        assert saving["daly"] == pytest.approx(daly_interval(60, job["mtbf"]))
        assert job["recommended"] == {"checkpoint": {"every_steps": round(saving["daly"] / 0.5)}}
        best = max(saving["intervals"], key=lambda row: row["goodput"])
        assert best["interval"] == saving["best"]
        for row in saving["intervals"]:
            parts = ("saving", "lost", "detecting", "queueing", "starting", "goodput")
            assert sum(row[part] for part in parts) == pytest.approx(1)
            assert row["low"] <= row["goodput"] <= row["high"]
            assert row["goodput"] == pytest.approx(row["by_formula"], abs=0.03)
        behind = job["saving"]["asynchronous"]
        assert max(row["goodput"] for row in behind["intervals"]) > best["goodput"]
        assert f'"every_steps": {round(saving["daly"] / 0.5)}' in out
    assert few["saving"]["synchronous"]["best"] > many["saving"]["synchronous"]["best"]
    assert "nothing here was measured" in out
    drawing = ElementTree.fromstring(figure.read_text(encoding="utf-8"))
    words = "".join(drawing.itertext())
    assert "512 nodes" in words
    assert "asynchronous saving" in words


def test_the_same_seed_gives_the_same_numbers(plan):
    first = plan(*ALONE)[3]
    assert plan(*ALONE)[3] == first
    assert plan(*ALONE, "--seed", "1")[3] != first


def test_what_is_recommended_is_a_section_of_a_config(plan):
    without_steps = [word for word in ALONE if word not in {"--step", "0.5"}]
    for words in (ALONE, without_steps):
        _, out, _, found = plan(*words)
        section = found["jobs"][0]["recommended"]
        (setting,) = section["checkpoint"]
        assert setting == ("every_steps" if words is ALONE else "every_seconds")
        CheckpointConfig.model_validate(section["checkpoint"])
        written = out.split("recommended, with synchronous saving: ")[1].split(" in the section")[0]
        assert hjson.loads("{" + written + "}") == section


def test_a_time_limit_costs_starts(plan):
    _, out, _, free = plan(*ALONE)
    code, limited_out, _, limited = plan(*ALONE, "--time-limit", "4:00:00")
    assert code == 0
    rows = [found["jobs"][0]["saving"]["synchronous"]["intervals"] for found in (free, limited)]
    for one, other in zip(*rows, strict=True):
        assert one["queueing"] < other["queueing"]
    assert "goodput    5 %   95 %  by formula" in out
    assert "by formula  saving" not in limited_out
    assert "jobs of at most 4 h" in limited_out
    # with starts of SLURM's own making Daly's model does not hold
    assert {row["by_formula"] for row in rows[1]} == {None}


def test_the_config_says_what_the_options_do_not(plan, small_corpus, tmp_path):
    changes = {"headrace.checkpoint": {"every_steps": 40, "asynchronous": True}}
    config = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
    words = ("--simulate", "--gpu", "V100-32", "--nodes", "1", "--nodes", "4", "--work", "50")
    code, out, _, found = plan(str(config), "--stage", "multilingual", *words, "--draws", "20")
    assert code == 0
    assert "multilingual: 1 epochs of" in out or "multilingual: 1 epoch" in out
    for job in found["jobs"]:
        assert job["step"] > 0
        # fp32 without ZeRO: weights and two moments of each
        assert job["checkpoint_bytes"] % 12 == 0
        assert job["chosen"] == "asynchronous"
        rows = job["saving"]["asynchronous"]["intervals"]
        assert 40 in [row["steps"] for row in rows]
        section = job["saving"]["asynchronous"]
        assert section["configured_interval"] == pytest.approx(40 * job["step"])
    assert "as configured, every 40 steps" in out
    assert not (tmp_path / "run").exists()


def test_mistakes_are_listed_together(plan):
    code, _, err, _ = plan()
    assert code == 2
    assert "CONFIG: a run config is needed" in err
    code, _, err, _ = plan("--simulate", "--memory", "--mtbf", "0", "--time-limit", "long")
    assert code == 2
    assert "--mtbf: a positive number is needed" in err
    assert "--time-limit: no time limit" in err
    assert "--save: without a config it is not known" in err
    assert "--memory: it needs a run config" in err
    code, _, err, _ = plan("run.json", "--save", "5", "--draws", "9")
    assert code == 2
    assert "--save: it would have no effect" in err
    assert "--draws: it would have no effect" in err
    code, _, err, _ = plan("run.json", "--simulate", "--detect", "-1", "--goodput-plot", "x.pdf")
    assert code == 2
    assert "--detect: 0 or more is needed" in err
    assert "--goodput-plot: no format to draw in" in err
    assert "--gpu: the time of a step is that of one kind of GPU" in err
    code, _, err, _ = plan(
        *("--simulate", "--save", "10", "--time-limit", "0:05:30", "--start", "100")
    )
    assert code == 2
    assert "--time-limit: a start takes 110 s, and the signal to save comes before" in err
    code, _, err, _ = plan("--simulate", "--save", "400", "--time-limit", "20:00:00")
    assert code == 2
    assert "--time-limit: a checkpoint takes 400 s, and the signal comes 300 s before" in err


def test_checkpoints_are_written_by_the_slower_of_node_and_storage():
    storage = Storage(node=1e9, shared=8e9, copy=5e9)
    whole = CheckpointSize(main=12e9, each=0, ranks=8)  # without ZeRO one rank writes all
    assert write_seconds(whole, 2, storage) == 12
    assert copy_seconds(whole, storage) == pytest.approx(2.4)
    divided = CheckpointSize(main=0, each=1e9, ranks=64)
    assert write_seconds(divided, 8, storage) == 8
    assert write_seconds(divided, 64, storage) == 8  # by now the file system is what limits
    assert load_seconds(divided, 8, storage) == 16  # once to compare, once to load
    assert load_seconds(whole, 2, storage) == 18


def test_nothing_heavy_is_imported():
    """A question about a job is answered without torch."""
    code = (
        "import sys; from headrace.cli import main; "
        "main(['plan', '--simulate', '--save', '9', '--draws', '5']); "
        "print('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.splitlines()[-1] == "False", finished.stderr
