"""A whole experiment at a size of seconds: choosing, comparing, going on, tables and page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from headrace.cli import main
from headrace.errors import StopRequested
from headrace.forgetting.experiment import Experiment, choose, set_up
from headrace.forgetting.experiment_file import load_experiment
from headrace.forgetting.results import collect, write_results
from headrace.forgetting.sequence import Group
from headrace.forgetting.tables import (
    all_tables,
    before_shift_table,
    markdown,
    measures_table,
    pairs_table,
    search_table,
    shifts_table,
    tuning_table,
)
from headrace.report.forgetting_page import render_forgetting
from headrace.training.distributed import free_port
from headrace.training.signals import StopFlag

ROOT = Path(__file__).parents[2]
METHODS = ["flat", "flat tuned", "replay", "WiSE-FT", "joint"]


def set_up_in(folder, small_tasks, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "experiment.json"
    path.write_text(json.dumps(small_tasks.experiment(folder / "out", **changes)))
    experiment, base = load_experiment(path)
    return path, set_up(experiment, base, folder / "out")


@pytest.fixture(scope="module")
def done(small_tasks, group, tmp_path_factory):
    """A finished experiment: its file, what it shares, what it said."""
    path, setup = set_up_in(tmp_path_factory.mktemp("done"), small_tasks)
    lines = []
    chosen = Experiment(setup, group, lines.append).run()
    return path, setup, lines, chosen


def matrices(setup):
    return {
        str(path.relative_to(setup.output)): json.loads(path.read_text(encoding="utf-8"))
        for path in setup.output.glob("*/*/*/matrix.json")
    }


def test_values_are_chosen_on_validation_data_of_other_sequences(done):
    _, setup, _, chosen = done
    found = matrices(setup)
    tuning = {name: data for name, data in found.items() if name.startswith("tuning/")}
    compared = {name: data for name, data in found.items() if name.startswith("sequences/")}
    assert len(tuning) == 4, "two tuned methods with two sets of values each"
    assert all(list(data["splits"]) == ["validation"] for data in tuning.values())
    assert all("/".join(name.split("/")[1:2]).startswith("pairs-weather") for name in tuning)
    assert len(compared) == 2 * len(METHODS)
    assert all(list(data["splits"]) == ["test"] for data in compared.values())
    by_rate = {}
    for cell in setup.tuning_cells():
        for trial in setup.candidates(cell, "flat_tuned", {}):
            content = found[str((trial.folder / "matrix.json").relative_to(setup.output))]
            rate = trial.values["optimizer.params.lr"]
            by_rate[rate] = content["splits"]["validation"]["measures"]["p"]
    assert chosen["flat_tuned"] == {"optimizer.params.lr": max(by_rate, key=by_rate.get)}
    assert choose(setup, "flat_tuned", {}) == chosen["flat_tuned"]


def test_every_run_has_a_line_and_the_last_says_that_nothing_is_left(done):
    _, _, lines, _ = done
    ends = [line for line in lines if " runs, about " in line]
    assert len(ends) == 14
    assert "14 of 14 runs, about 0 s left" in ends[-1]


def test_nothing_finished_is_run_again(done, group):
    path, setup, _, chosen = done
    before = {file: file.stat().st_mtime_ns for file in setup.output.rglob("matrix.json")}
    lines = []
    assert Experiment(setup, group, lines.append).run() == chosen
    assert lines == []
    assert {file: file.stat().st_mtime_ns for file in setup.output.rglob("matrix.json")} == before
    assert not list(setup.output.rglob("*.safetensors")), "no weights are left"
    assert main(["forgetting", str(path), "--report-only"]) == 0


def test_results_are_those_of_the_matrices(done):
    _, setup, _, _ = done
    results = write_results(setup, {"device": "cpu"})
    assert json.loads((setup.output / "results.json").read_text(encoding="utf-8")) == results
    assert results["runs_finished"] == results["runs"] == 10
    assert results["reference"] == "flat_tuned"
    tuned, replay = results["methods"]["flat_tuned"], results["methods"]["replay"]
    values = [run["p"] for run in tuned["runs"]]
    entry = tuned["estimates"]["sequences"]["p"]["estimate"]
    assert entry["mean"] == pytest.approx(np.mean(values))
    assert entry["low"] <= entry["mean"] <= entry["high"]
    assert tuned["estimates"]["sequences"]["p"]["difference"] is None
    paired = [a["p"] - b["p"] for a, b in zip(replay["runs"], tuned["runs"], strict=True)]
    difference = replay["estimates"]["sequences"]["p"]["difference"]
    assert difference["mean"] == pytest.approx(np.mean(paired))
    # with one seed of the network: the same first stage, so the same score right after it
    for a, b in zip(replay["runs"], tuned["runs"], strict=True):
        assert a["R"][0] == b["R"][0]
    joint = results["methods"]["joint"]["estimates"]["sequences"]
    assert joint["forgetting"]["estimate"] is None


def test_tables_have_the_layout_of_the_paper(done):
    _, setup, _, _ = done
    results = collect(setup)
    first = before_shift_table(results)
    assert first.columns == ("Method", "weather", "Average")
    assert [row[0] for row in first.rows] == METHODS[:4], "joint training has no first task"
    second, third = search_table(results), pairs_table(results)
    assert second.columns == ("Method", "pairs-weather", "Average")
    assert [row[0] for row in second.rows] == ["flat tuned", "WiSE-FT"]
    assert third.columns == ("Method", "weather-pairs", "Average")
    assert [row[0] for row in third.rows] == METHODS
    run = results["methods"]["flat"]["estimates"]["weather-pairs"]
    kept, learned = (f"{100 * run[name]['estimate']['mean']:.1f}" for name in ("p_o", "p_s"))
    assert third.rows[0][1:] == (f"{kept} - {learned}", f"{kept} - {learned}")
    assert [row[0] for row in measures_table(results).rows] == METHODS
    assert sum(row[0].endswith("*") for row in tuning_table(results).rows) == 2
    text = markdown(results, "small")
    assert all(table.title in text for table in all_tables(results))


def test_the_page_shows_each_method_and_each_matrix(done):
    _, setup, _, _ = done
    results = collect(setup)
    page = render_forgetting("small <b>", results)
    assert "small &lt;b&gt;" in page
    assert "<script" not in page
    (drawing,) = [
        found
        for found in (ElementTree.fromstring(t) for t in re.findall(r"<svg .*?</svg>", page, re.S))
        if found.get("role") == "img"
    ]
    assert drawing.findtext("title") == "What is kept against what is learned"
    for method in METHODS:
        assert f"{method}: p_o " in drawing.findtext("desc")
        assert f"{method}, after" in page  # hover of the heat map
    for run in results["methods"]["flat"]["runs"]:
        assert run["sequence"] == "weather-pairs"
    mean = np.mean([run["R"] for run in results["methods"]["flat"]["runs"]], axis=0)
    assert f"flat, after weather, on pairs: {100 * mean[0, 1]:.2f}" in page


def test_shifts_have_a_table_of_scores_before_and_after(done):
    _, setup, _, _ = done
    results = collect(setup)
    results |= {"shifts": results["sequences"], "sequences": []}
    table = shifts_table(results)
    assert table.columns == ("Method", "weather-pairs")
    matrices = [run["R"] for run in results["methods"]["flat"]["runs"]]
    before, after = (np.mean([values[stage][0] for values in matrices]) for stage in (0, 1))
    assert table.rows[0] == ("flat", f"{100 * before:.1f} - {100 * after:.1f}")
    assert table.rows[-1][1].startswith("– - "), "joint training has no score before the shift"


def test_a_stopped_experiment_goes_on(done, small_tasks, world, stop_after, tmp_path):
    methods = {"flat": {"set": {"optimizer.params.lr": 1e-3}}}
    changes = {"methods": methods, "tuning": None, "seeds": [1]}
    _, setup = set_up_in(tmp_path, small_tasks, **changes)
    for looks in (3, 6):  # within a stage
        with pytest.raises(StopRequested, match="start the same command again"):
            Experiment(setup, Group(world, stop_after(looks)), lambda _: None).run()
        assert not matrices(setup)
    Experiment(setup, Group(world, StopFlag()), lambda _: None).run()
    (found,) = matrices(setup).values()
    _, whole, _, _ = done
    (name,) = [name for name in matrices(whole) if re.search("seed-1/flat_[0-9a-f]{8}/", name)]
    assert found["splits"] == matrices(whole)[name]["splits"]


def test_a_part_of_an_experiment_is_reported(small_tasks, tmp_path, capsys):
    path, setup = set_up_in(tmp_path, small_tasks)
    assert main(["forgetting", str(path), "--report-only"]) == 0
    results = json.loads((setup.output / "results.json").read_text(encoding="utf-8"))
    assert results["runs_finished"] == 0
    assert list(results["methods"]) == ["flat"], "of the others no values are chosen yet"
    assert "No run is finished yet" in (setup.output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_killed_experiment_goes_on_and_ends_alike(done, small_tasks, tmp_path):
    """Killed with SIGKILL, then two processes share what is left."""
    _, whole, _, _ = done
    path, setup = set_up_in(tmp_path, small_tasks)
    command = [sys.executable, "-m", "headrace.cli", "forgetting", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def start():
        log = (tmp_path / "log").open("ab")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    process = start()
    while process.poll() is None and len(matrices(setup)) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(matrices(setup)) < 14
    both = [start(), start()]
    assert [process.wait() for process in both] == [0, 0], (tmp_path / "log").read_text()
    found, expected = matrices(setup), matrices(whole)
    assert sorted(found) == sorted(expected)
    for name, data in expected.items():
        assert found[name]["splits"] == data["splits"], name
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count(" runs, about ") <= 14, "what was finished was not run again"


@pytest.mark.slow
def test_two_ranks_train_and_one_scores_and_reports(small_tasks, tmp_path):
    methods = {
        "flat": {},
        "wise_ft": {"title": "WiSE-FT", "like": "flat", "interpolation": 0.0},
    }
    changes = {"methods": methods, "tuning": None, "seeds": [1]}
    path, setup = set_up_in(tmp_path, small_tasks, **changes)
    finished = subprocess.run(
        [
            str(Path(sys.executable).parent / "deepspeed"), "--num_gpus", "2",
            "--master_port", str(free_port()), str(ROOT / "launch" / "forgetting.py"), str(path),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("tables: ") == 1
    flat, mixed = (data["splits"]["test"]["values"] for _, data in sorted(matrices(setup).items()))
    assert mixed == [flat[0], flat[0]]
    log = setup.output.glob("sequences/*/flat_*/run/metrics.jsonl")
    starts = [json.loads(line) for line in next(log).read_text().splitlines() if '"start"' in line]
    assert [start["world_size"] for start in starts] == [2, 2]
