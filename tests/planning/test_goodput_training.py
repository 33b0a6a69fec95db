"""The simulation of failures against real training that is killed at the same moments.

Time is counted in steps here, so that nothing depends on how fast the machine is; the same with
real time is ``tests/planning/measure_goodput.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.planning.failures import Job, Saving
from headrace.planning.goodput import simulate, standard_gaps

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "workers" / "killed_lives.py"
STEPS, EVERY = 36, (3, 8)
"""In one epoch: at its end there would be a checkpoint as well."""
MTBF, SEED, LIVES = 12.0, 5, 1
"""In steps; of the draws; for each interval."""


@pytest.fixture(scope="module")
def lives(small_corpus, tmp_path_factory):
    """Lives of real runs, by interval and draw."""
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
                "headrace.data.validation": {},
            },
        )
        steps = [int(gap[draw]) for gap in gaps]
        jobs.append({"config": str(config), "steps": steps})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = subprocess.run(
        [sys.executable, WORKER, folder / "jobs.json", folder / "lives.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads((folder / "lives.json").read_text())
    return dict(zip(cases, found, strict=True))


def steps_of(start: dict) -> list[int]:
    return [step for name, step, _ in start["events"] if name == "step"]


@pytest.mark.parametrize("every", EVERY)
def test_a_killed_run_does_as_many_steps_as_simulated(lives, every):
    job = Job(STEPS, MTBF)
    found = simulate(job, Saving(0), [every], draws=LIVES, seed=SEED)[0]
    for draw in range(LIVES):
        starts = lives[every, draw]
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
