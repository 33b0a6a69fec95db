"""The same seed gives the same losses, also across a stop and a resume, at every ZeRO stage."""

import json
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "workers" / "several_runs.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(small_corpus, launcher, read_losses, tmp_path_factory):
    """Losses of every run: (ZeRO stage, first | again | stopped) -> losses."""
    folder = tmp_path_factory.mktemp("resume")
    stages = [
        {"name": "multilingual", "epochs": 2, "max_steps": 22},
        {
            "name": "monolingual", "for_each": "language", "languages": ["zh"],
            "start_from": "multilingual", "epochs": 1,
        },
    ]  # fmt: skip
    jobs, outputs = [], {}
    for zero in range(4):
        for kind in ("first", "again", "stopped"):
            output = folder / f"zero{zero}-{kind}"
            config = small_corpus.write_config(
                folder / f"zero{zero}-{kind}.json",
                output,
                **{
                    "zero_optimization.stage": zero,
                    "train_micro_batch_size_per_gpu": 4,
                    "headrace.stages": stages,
                },
            )
            # the stop falls in the middle of an epoch, between two checkpoints
            jobs.append({"config": str(config), "stop_after": 7 if kind == "stopped" else None})
            outputs[zero, kind] = output
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = launcher.run(WORKER, str(folder / "jobs.json"))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return {key: read_losses(output) for key, output in outputs.items()}


@pytest.mark.parametrize("zero", range(4))
def test_two_runs_with_the_same_seed_have_identical_losses(runs, zero):
    assert len(runs[zero, "first"]) > 25
    assert runs[zero, "first"] == runs[zero, "again"]


@pytest.mark.parametrize("zero", range(4))
def test_a_stopped_and_resumed_run_has_the_losses_of_an_uninterrupted_one(runs, zero):
    assert runs[zero, "first"] == runs[zero, "stopped"]


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_zero_stage_trains_the_same_model(runs, zero):
    plain, sharded = runs[0, "first"], runs[zero, "first"]
    assert plain.keys() == sharded.keys()
    assert list(sharded.values()) == pytest.approx(list(plain.values()), rel=1e-4)
