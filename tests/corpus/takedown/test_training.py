"""The whole of it: a corpus is built, and documents are removed while two ranks train on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.cli import main
from headrace.config import load_run_config
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.shards import ShardReader
from headrace.stream.packing import samples_of
from headrace.training.data import encode_data, open_data, plan_batches
from headrace.training.stages import expand_stages
from tests.corpus.takedown.built import TWIN, BuiltCorpus, contents, make_files
from tests.corpus.takedown.conftest import LANGUAGES, PERSON, RARE_HOST
from tests.training.conftest import WORKERS, free_port

KEPT = 300
"""At multiples of so many steps there are checkpoints that stay."""


def write_config(folder: Path, tokenizer: Path) -> Path:
    """9 epochs of some 70 steps."""
    config = {
        "train_batch_size": 8,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
        "headrace": {
            "output": str(folder / "run"),
            "seed": 3,
            "task": {"type": "masked_lm", "max_length": 32},
            "model": {
                "tokenizer": str(tokenizer),
                "config": {
                    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "intermediate_size": 32,
                    "max_position_embeddings": 40,
                },
            },
            "data": {
                "cache_dir": str(folder / "encoded"),
                "train": {name: str(folder / "corpus" / name) for name in LANGUAGES},
            },
            "batching": {"window_batches": 4},
            "logging": {"every_steps": 1, "tensorboard": False},
            "checkpoint": {"every_steps": 20, "keep_every": KEPT},
            "stages": [{"name": "text", "epochs": 9, "keep_best": "last"}],
        },
    }  # fmt: skip
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def losses_of(folder: Path) -> dict[int, float]:
    path = folder / "run" / "metrics.jsonl"
    if not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return {record["step"]: record["loss"] for record in records if record["kind"] == "train"}


def steps_with(config_path: Path, ids: set[str], steps: int) -> set[int]:
    """Which of so many steps have a place for one of these documents, by the plan; from 1 on."""
    config = load_run_config(config_path)
    data = encode_data(open_data(config), config)
    (branch,) = expand_stages(config)
    plan = plan_batches(config, branch, data, as_first_planned=True)
    rows = set()
    for source, language in enumerate(branch.languages):
        reader = data.opened.train[language]
        for shard in range(len(reader.manifest.shards)):
            for number, key in enumerate(reader.keys(shard)):
                if key in ids:
                    own = data.train[language].shards[shard].sequences_of(np.array([number]))
                    rows |= {(source, shard, int(row)) for row in own}
    found = set()
    for step in range(steps):
        samples = samples_of(plan.batch(step))
        places = zip(samples.source.tolist(), samples.shard.tolist(), samples.sample.tolist(),
                     strict=True)  # fmt: skip
        if not rows.isdisjoint(places):
            found.add(step + 1)
    return found


def tokens_of(config_path: Path, corpus: BuiltCorpus, ids: set[str]) -> list[bytes]:
    """The beginnings of the encoded documents, each of which has a word of its own."""
    config = load_run_config(config_path)
    data = encode_data(open_data(config), config)
    found = []
    for language, source in data.train.items():
        reader = ShardReader(str(corpus.folder / language))
        for shard, encoded in enumerate(source.shards):
            for number, key in enumerate(reader.keys(shard)):
                if key in ids:
                    row = int(encoded.sequences_of(np.array([number]))[0])
                    found.append(encoded.tokens(row)[1:12].tobytes())
    return found


def stream_at(branch: Path, step: int) -> Any:
    """Where the stream of a run is to go on, as the checkpoint of a step has it."""
    (state,) = (branch / "checkpoints" / f"step-{step:06d}").rglob("mp_rank_00_model_states.pt")
    saved = torch.load(state, map_location="cpu", weights_only=False)
    return json.loads(json.loads(saved["headrace"])["stream"])


@pytest.mark.slow
def test_documents_are_removed_while_two_ranks_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run notices, saves, and goes on without them; up to there every bit is the same."""
    folder, whole = tmp_path / "removed", tmp_path / "whole"
    corpus = make_files(folder)
    corpus.build(corpus.folder)
    shutil.copytree(corpus.folder, whole / "corpus")
    for command in ("report", "card"):  # what says something of the documents is there as well
        assert main([command, str(corpus.folder)]) == 0
    readers = [ShardReader(str(corpus.folder / name)) for name in LANGUAGES]
    tokenizer = train_tokenizer(readers, tmp_path / "tokenizer", 358)
    configs = {folder: write_config(folder, tokenizer), whole: write_config(whole, tokenizer)}
    books = {corpus.one("books", language, TWIN).id for language in LANGUAGES}
    left_out = {corpus.one("web", language, TWIN).id for language in LANGUAGES}
    gone = (corpus.of_person() | corpus.of_host() | books) - left_out
    assert len(gone) == 10
    tokens = tokens_of(configs[folder], corpus, gone)
    jobs = [
        {"config": str(configs[whole]), "stop_after": None},
        {"config": str(configs[folder]), "stop_after": 10**9},
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    ranks = start_ranks(tmp_path / "jobs.json", tmp_path / "log")
    try:
        wait_for_step(folder, 50, ranks)
        assert corpus.remove("--subject", PERSON, "--domain", RARE_HOST, "--stage", "overwrite",
                             "--raw-inputs", "--yes") == 0  # fmt: skip
        codes = [rank.wait(900) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    log = (tmp_path / "log").read_text()
    assert codes == [0, 0], log[-3000:]

    (branch,) = expand_stages(load_run_config(configs[folder]))
    (start,) = [json.loads(line) for line in (branch.folder / "removed.jsonl").open()]
    assert start["epochs"] == dict.fromkeys(LANGUAGES, 1)
    stopped = start["step"]
    before, after = losses_of(whole), losses_of(folder)
    steps = len(before)
    assert before.keys() == after.keys() == set(range(1, steps + 1))
    assert 50 <= stopped < steps - 20
    planned = steps_with(configs[folder], gone, steps)
    first = min(step for step in planned if step > stopped)
    assert all(after[step] == before[step] for step in range(1, first))
    assert after[first] != before[first]
    (other,) = expand_stages(load_run_config(configs[whole]))
    kept = steps // KEPT * KEPT
    assert stopped < kept
    assert stream_at(branch.folder, kept) == stream_at(other.folder, kept)

    assert main(["report", str(folder / "run")]) == 0
    assert_nowhere([*corpus.marks(gone | left_out), *tokens, PERSON.encode()], folder,
                   tmp_path / "log")  # fmt: skip
    capsys.readouterr()
    assert main(["seen", str(folder / "run"), "--json"]) == 0
    (seen,) = json.loads(capsys.readouterr().out)["branches"]
    assert {document["key"] for document in seen["documents"]} == gone
    for document in seen["documents"]:
        planned = steps_with(configs[folder], {document["key"]}, steps)
        own = {step for step in planned if step <= stopped}
        assert (document["first_step"], document["last_step"], document["steps"]) == (
            min(own), max(own), len(own),
        )  # fmt: skip
    assert seen["exported"]


def start_ranks(jobs: Path, log: Path) -> list[subprocess.Popen[bytes]]:
    common = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WORLD_SIZE": "2",
        "LOCAL_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    with log.open("wb") as output:
        return [
            subprocess.Popen(
                [sys.executable, str(WORKERS / "several_runs.py"), str(jobs)],
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for rank in range(2)
        ]


def wait_for_step(folder: Path, step: int, ranks: list[subprocess.Popen[bytes]]) -> None:
    while max(losses_of(folder), default=0) < step:
        assert all(rank.poll() is None for rank in ranks), (folder.parent / "log").read_text()
        time.sleep(0.1)


def assert_nowhere(wanted: list[bytes], folder: Path, *files: Path) -> None:
    """A search of all bytes: shards, tables, quarantine, log, raw input, sidecars, run folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(paths) > 30
    for path, content in contents([*paths, *files]):
        for data in wanted:
            assert data not in content, path
