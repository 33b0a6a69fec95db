"""The selection experiment at a tiny size: what it trains on, and that it goes on after a kill."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.benchmarks.selection_experiment import RESULT, result_of, run, unfinished
from headrace.benchmarks.selection_experiment_data import Corpus, repeated_share
from headrace.benchmarks.selection_experiment_plan import Settings, Trial, trials_of
from headrace.errors import ConfigError, CorpusError

ROOT = Path(__file__).parents[2]
needs_extras = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("faiss", "gensim")),
    reason="needs the extras faiss and doc2vec",
)


@pytest.fixture(scope="module")
def encoder(small_corpus, tmp_path_factory):
    """A very small BERT with weights of its own."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder") / "model"
    shutil.copytree(small_corpus.tokenizer, folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "questions.jsonl"
    words = ["lamp", "river", "market", "winter", "letter", "sea", "bread", "window", "song", "hat"]
    lines = [
        {
            "id": f"q{number}",
            "context": f"The {words[number % 10]} near the {words[number // 10]} was old.",
            "choices": [f"It was sold with a {words[(3 * number) % 10]}.", "It could fly."],
            "label": 0,
        }
        for number in range(100)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def settings(corpus, encoder):
    return Settings(
        corpus=str(corpus), test=None, encoder=str(encoder), seeds=(1,), rows=40, test_rows=30,
        copies=10, fractions=(0.25,), sweep_fraction=0.25, trade_offs=("balanced",),
        densities=(0.0,), epochs=1, max_length=48,
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    found = Corpus(settings, output)
    found.prepare(trials_of(settings))
    return found


def test_every_method_of_a_seed_has_the_same_rows_and_sizes():
    trials = trials_of(Settings("c", None, "e"))
    assert len({trial.name for trial in trials}) == len(trials)
    for seed in (1, 2, 3):
        own = [trial for trial in trials if trial.seed == seed]
        for method in ("graph_cut", "graph_cut_doc2vec", "random"):
            usual = {t.rows for t in own if t.method == method and t.trade_off in (None, 10.0)}
            assert usual == {20, 40, 100, 160, 240, 320}
        swept = [t.trade_off for t in own if t.method == "graph_cut" and t.rows == 40]
        assert set(swept) == {0.0, 1.0, 10.0, 100.0, "balanced"}
        assert {t.density for t in own if t.method == "random"} == {0.0, 0.25, 0.5, 0.75}
    assert len(trials) == len({replace(trial, seed=0) for trial in trials}) * 3


@needs_extras
def test_what_each_method_is_trained_on(settings, prepared):
    chosen = {trial: prepared.chosen(trial) for trial in trials_of(settings)}
    for trial, ids in chosen.items():
        contents = prepared.contents(trial)
        assert (
            len(ids) == len(set(ids)) == (trial.rows or {"full": 80, "distinct": 40}[trial.method])
        )
        assert set(ids) <= set(contents)
        if trial.method.startswith("distinct"):
            assert repeated_share(contents, ids) == 0
    full = Trial(1, "full", 0)
    assert repeated_share(prepared.contents(full), chosen[full]) == 0.5
    # the same questions everywhere, and none of them in the test
    distinct = {prepared.contents(trial)[i] for trial, ids in chosen.items() for i in ids}
    assert len(distinct) == 40
    assert prepared.test_facts() == {"samples": 30, "chance": 0.5}


@needs_extras
def test_no_test_question_is_trained_on(settings, prepared):
    from headrace.shards import ShardReader

    tested = {sample.key for sample in ShardReader(prepared.test)}
    trained = {
        str(sample.metadata.get("copy_of", sample.key))
        for trial in trials_of(settings)
        for sample in ShardReader(prepared.source(trial))
    }
    assert len(tested) == 30
    assert not tested & trained


def test_other_settings_and_missing_files_are_refused(settings, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(replace(settings, corpus="none.jsonl", encoder="nowhere"), tmp_path / "a")
    assert [problem.where for problem in caught.value.problems] == ["--corpus", "--encoder"]
    with pytest.raises(CorpusError, match="too few"):
        run(replace(settings, rows=90), tmp_path / "b")
    with pytest.raises(ConfigError, match="other settings"):
        run(settings, tmp_path / "b")


COMMAND = """
import sys
from pathlib import Path
from headrace.benchmarks.selection_experiment import run
from headrace.benchmarks.selection_experiment_plan import Settings
run({settings!r}, Path(sys.argv[1]), workers=1)
"""


@needs_extras
@pytest.mark.slow
@pytest.mark.extended
def test_kill_9_and_start_again_gives_the_same_accuracies(settings, tmp_path):
    settings = replace(settings, trade_offs=(), densities=())
    trials = trials_of(settings)
    output = tmp_path / "killed"
    # all processes at once; then the first alone, whose worker goes on with the trial in hand
    for finished, kill in ((1, os.killpg), (3, os.kill)):
        script = [sys.executable, "-c", COMMAND.format(settings=settings), str(output)]
        process = subprocess.Popen(script, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while len(unfinished(output, trials)) > len(trials) - finished:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kill(process.pid, signal.SIGKILL)
        process.wait()
    left = unfinished(output, trials)
    assert left
    done = [trial for trial in trials if trial not in left]
    stamps = {t: (output / "trials" / t.name / RESULT).stat().st_mtime_ns for t in done}

    results = run(settings, output, workers=2)
    assert {t: (output / "trials" / t.name / RESULT).stat().st_mtime_ns for t in done} == stamps
    whole = run(settings, tmp_path / "whole", workers=1)
    assert [t["accuracy"] for t in results["trials"]] == [t["accuracy"] for t in whole["trials"]]
    assert len(results["trials"]) == len(trials)
    assert {trial["samples"] for trial in results["trials"]} == {30}
    assert all(trial["repeated_share"] == 0 for trial in results["trials"]
               if trial["method"].startswith("distinct"))  # fmt: skip
    assert result_of(output, trials[0])["steps"] == 80 // 8

    (tmp_path / "r.json").write_text(json.dumps(results))
    rendered = [sys.executable, str(ROOT / "scripts" / "selection_experiment_table.py")]
    rendered += [str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.svg")]
    page = subprocess.run(rendered, capture_output=True, text=True, check=True).stdout
    assert page == (tmp_path / "r.md").read_text() + "\n"
    assert "| 25 % (20) |" in page
    assert (tmp_path / "r.svg").read_text().count("<svg") == 1
