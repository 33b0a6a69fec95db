"""The simulation of failures against real training that is killed at the same moments.

Time is counted in steps here, so that nothing depends on how fast the machine is; the same with
real time is ``tests/planning/measure_goodput.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headrace.planning.checkpoint_size import checkpoint_size
from headrace.planning.failures import Job, Saving
from headrace.planning.goodput import simulate, standard_gaps
from headrace.planning.setup import Sizes, setup_of

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "workers" / "killed_lives.py"
STEPS = 36
"""In one epoch: at its end there would be a checkpoint as well."""
EVERY = {3: 2, 8: 3}
"""ZeRO stage by interval."""
MTBF, SEED, LIVES = 12.0, 5, 1
"""In steps; of the draws; for each interval."""


@pytest.fixture(scope="module")
def lives(small_corpus, forked_ranks, tmp_path_factory):
    """Lives of real runs by interval and draw, and their folder."""
    folder = tmp_path_factory.mktemp("lives")
    gaps = [MTBF * standard_gaps(SEED, number, LIVES) for number in range(60)]
    cases = [(every, draw) for every in EVERY for draw in range(LIVES)]
    jobs = []
    for every, draw in cases:
        name = f"every-{every}-{draw}"
        config = small_corpus.write_config(
            folder / f"{name}.json",
            folder / name,
            **{
                "train_batch_size": 8,
                "headrace.stages": [{"name": "all", "max_steps": STEPS, "keep_best": "last"}],
                "headrace.checkpoint.every_steps": every,
                "zero_optimization.stage": EVERY[every],
                "headrace.data.validation": {},
            },
        )
        steps = [int(gap[draw]) for gap in gaps]
        jobs.append({"config": str(config), "steps": steps})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = [str(WORKER), str(folder / "jobs.json"), str(folder / "lives.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    codes = forked_ranks.run(words, [environment], folder, folder / "log", 500)
    assert codes == [0], (folder / "log").read_text()[-3000:]
    found = json.loads((folder / "lives.json").read_text())
    return dict(zip(cases, found, strict=True)), folder


def steps_of(start: dict) -> list[int]:
    return [step for name, step, _ in start["events"] if name == "step"]


@pytest.mark.parametrize("every", EVERY)
def test_a_killed_run_does_as_many_steps_as_simulated(lives, every):
    job = Job(STEPS, MTBF)
    found = simulate(job, Saving(0), [every], draws=LIVES, seed=SEED)[0]
    for draw in range(LIVES):
        starts = lives[0][every, draw]
        assert len(starts) - 1 == found.failures[draw]
        kept = 0
        for start in starts:
            done = steps_of(start)
            first = [step for name, step, _ in start["events"] if name == "trains"]
            assert first in ([], [kept])
            kept = max([kept, *(step for step in done if step % every == 0)])
        assert done[-1] == STEPS
        computed = sum(len(steps_of(start)) for start in starts)
        # of the time that a failure takes the simulation counts the begun step as well
        gaps = [MTBF * standard_gaps(SEED, number, LIVES)[draw] for number in range(len(starts))]
        begun = sum(gap - int(gap) for gap in gaps[:-1])
        assert computed == pytest.approx(STEPS + found.lost[draw] - begun)


@pytest.mark.parametrize(("every", "stage"), EVERY.items())
def test_checkpoints_are_as_large_as_planned(lives, every, stage):
    runs, folder = lives
    sizes = {
        number for start in runs[every, 0] for name, number, _ in start["events"] if name == "bytes"
    }
    lines = (folder / f"every-{every}-0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    numbers = next(json.loads(line)["parameters"] for line in lines if '"start"' in line)
    section = {"optimizer": {"type": "AdamW"}, "zero_optimization": {"stage": stage}}
    setup = setup_of(section, kind="cpu", precision="fp32", ranks=1, accumulation=1)
    planned = checkpoint_size(Sizes(((numbers,),)), setup).whole
    for size in sizes:  # with the names of 60,000 weights, which of many millions weigh nothing
        assert planned < size < 1.06 * planned
