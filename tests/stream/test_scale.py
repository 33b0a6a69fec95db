"""A stage of 10^12 samples in 100,000 shards, planned in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys, time
import numpy as np
from headrace.shards.manifest import Manifest, ShardEntry
from headrace.stream.phases import Phase
from headrace.stream.plan import StagePlan
from headrace.stream.sources import manifest_source

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

imports = peak()
per_shard = int(sys.argv[1])
# From 50,000 shards to 5: sources of text are unequal.
shards = [50_000, 25_000, 12_500, 6_250, 3_125, 1_500, 1_000, 500, 100, 15, 5, 5]
manifests = [
    Manifest(1, tuple(
        ShardEntry(f"train-{n:06d}.tar", per_shard, per_shard * 1500, f"{n:032x}")
        for n in range(count)
    ))
    for count in shards
]
with_manifests = peak()
begun = time.perf_counter()
sources = [
    manifest_source(f"l{number}", f"s3://bucket/l{number}", manifest)
    for number, manifest in enumerate(manifests)
]
total = sum(sum(source.shard_sizes) for source in sources)
plan = StagePlan(
    sources, seed=17, stage="all", temperature=0.3,
    max_shares=[0.25] + [None] * 11, min_shares=[None] * 11 + [0.001],
    max_epochs=[None] * 6 + [8, 6, 4, 4, 4, 4.5],
    phases=[
        Phase(total // 2, temperature=0.7),
        Phase(2 * total, temperature=1.0, max_shares=[0.4] + [None] * 11),
    ],
)
planned = time.perf_counter()
fingerprint = plan.fingerprint
epochs = 4
places = {}
located = []
for epoch, position in ((0, 0), (0, total - 1), (1, total // 3), (epochs - 1, total - 1)):
    start = time.perf_counter()
    found = plan.locate(epoch, np.array([position]))
    located.append(time.perf_counter() - start)
    places[f"{epoch}/{position}"] = [
        int(found.source[0]), int(found.shard[0]), int(found.sample[0])
    ]
batch = plan.locate(2, np.arange(total // 2, total // 2 + 4096))
counts = plan.stage_mixture.counts(epochs * total).tolist()
json.dump({
    "samples": total, "shards": sum(shards), "per_source": [n * per_shard for n in shards],
    "plan_s": planned - begun, "locate_ms": [1000 * each for each in located],
    "peak": peak() - imports, "manifests": with_manifests - imports, "places": places,
    "segments": [[s.start, s.phase, s.exhausted] for s in plan.stage_mixture.segments],
    "counts": counts, "fingerprint": fingerprint, "batch": len(set(zip(
        batch.source.tolist(), batch.shard.tolist(), batch.sample.tolist()))),
    "state": len(json.dumps(dict(plan.settings))),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def measured() -> dict[int, dict]:
    """Facts of the plan, by samples in a shard: a trillion samples, and a thousandth of it."""

    def run(per_shard: int) -> dict:
        words = [sys.executable, "-c", PROGRAM, str(per_shard)]
        finished = subprocess.run(words, capture_output=True, text=True, check=True)
        return json.loads(finished.stdout)

    return {per_shard: run(per_shard) for per_shard in (10**7, 10**4)}


def test_a_trillion_samples_plan_in_little_memory(measured: dict[int, dict]) -> None:
    facts = measured[10**7]
    assert (facts["samples"], facts["shards"]) == (10**12, 100_000)
    assert facts["peak"] < 300e6


def test_memory_does_not_grow_with_samples(measured: dict[int, dict]) -> None:
    assert abs(measured[10**7]["peak"] - measured[10**4]["peak"]) < 10e6


def test_phases_and_limits_hold_at_this_size(measured: dict[int, dict]) -> None:
    facts = measured[10**7]
    sizes, counts = facts["per_source"], facts["counts"]
    assert sum(counts) == 4 * 10**12
    assert counts[10:] == [4 * sizes[10], 4.5 * sizes[11]]
    assert {start for start, _, exhausted in facts["segments"] if exhausted is None} == {
        0, 5 * 10**11, 2 * 10**12}  # fmt: skip
    assert len([1 for *_, exhausted in facts["segments"] if exhausted is not None]) == 6
    assert facts["batch"] == 4096
    for source, shard, sample in facts["places"].values():
        assert 0 <= sample < 10**7
        assert 0 <= shard < sizes[source] // 10**7
    assert facts["state"] < 500
