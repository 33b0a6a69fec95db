"""Benchmark ``stream``: our stream and its peers on the same bytes, each in its own processes.

Every measurement is a fresh process of the contestant's own environment; the contestants take
turns.  Before anything is timed, each serves a whole epoch, which must have the very samples that
the tars hold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.benchmarks import stream_contestants, stream_encoded, stream_faults
from headrace.benchmarks.frame import Measured, Row
from headrace.benchmarks.stream_contestants import HEADRACE
from headrace.benchmarks.stream_data import DataSet, make_data_set
from headrace.benchmarks.stream_rounds import (
    BATCH_SIZE,
    DELAY_S,
    DEPTHS,
    FAILING_SHARE,
    Course,
    check,
    http_rounds,
    prepare,
    raw_rounds,
    resume_rounds,
)
from headrace.errors import HeadraceError

__all__ = ["Settings", "measure", "settings"]

PACKAGES = ("torch", "numpy", "xxhash", "fsspec", "aiohttp", "tokenizers", "transformers")

SMALL, LARGE = "1 KB samples", "16 KB samples"


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark."""

    small_samples: int
    """Of up to 1,024 bytes."""
    large_samples: int
    """Of up to 16,384 bytes."""
    shards: int
    http_samples: int
    http_shards: int
    fault_samples: int
    documents: int
    """That are encoded."""
    vocabulary: int
    seconds: float
    """A slow contestant is stopped after this time of a measurement; the rate is what counts."""
    rounds: int
    peers: Path | None = None
    """Folder of the peers' environments."""
    seed: int = 17


def settings(quick: bool, peers: Path | None = None) -> Settings:
    """Return the sizes; the quick ones take about a minute without peers on two cores."""
    if quick:
        return Settings(
            small_samples=16_384,
            large_samples=4_096,
            shards=8,
            http_samples=2_048,
            http_shards=16,
            fault_samples=2_048,
            documents=2_048,
            vocabulary=2_000,
            seconds=1.0,
            rounds=1,
            peers=peers,
        )
    return Settings(
        small_samples=131_072,
        large_samples=8_192,
        shards=16,
        http_samples=16_384,
        http_shards=64,
        fault_samples=4_096,
        documents=16_384,
        vocabulary=4_000,
        seconds=1.5,
        rounds=5,
        peers=peers,
    )


def measure(sizes: Settings, rounds: int) -> Measured:
    """Run all contestants that are there in interleaved rounds.

    Raises:
        HeadraceError: where Headrace itself fails or does not serve the right samples.
    """
    entrants = stream_contestants.find(sizes.peers)
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        course = Course(entrants, Path(folder), sizes.seed)
        small, large, remote, damaged = _data_sets(sizes, Path(folder) / "data")
        for data in (small, large, damaged):
            prepare(course, data, course.entered(data))
        prepare(course, remote, [HEADRACE])
        memory = check(course, small)
        check(course, large)
        _refuse_failures(course)
        rows: list[Row] = []
        for title, data in ((SMALL, small), (LARGE, large)):
            for workers in (0, 2):
                rows += raw_rounds(course, data, title, workers, rounds, sizes.seconds)
        rows += resume_rounds(course, small, rounds)
        _refuse_failures(course)
        for share in (0.0, FAILING_SHARE):
            rows += http_rounds(course, remote, share, rounds)
        rows += stream_encoded.encoded_rounds(
            course, sizes.documents, sizes.vocabulary, rounds, sizes.seconds
        )
        tables = {
            **course.tables,
            "memory": _memory_table(memory),
            "faults": stream_faults.faults(course, damaged),
        }
        setting = _describe(sizes, small, large, remote)
    return Measured(
        setting=setting,
        rows=tuple(rows),
        figures=_figures(rows, memory),
        packages=PACKAGES,
        tables=tables,
        facts=entrants.versions,
    )


def _data_sets(sizes: Settings, folder: Path) -> list[DataSet]:
    return [
        make_data_set(
            folder / name, samples=samples, largest=largest, shards=shards, seed=sizes.seed
        )
        for name, samples, largest, shards in (
            ("1-KB", sizes.small_samples, 1 << 10, sizes.shards),
            ("16-KB", sizes.large_samples, 1 << 14, sizes.shards),
            ("http", sizes.http_samples, 1 << 10, sizes.http_shards),
            ("faults", sizes.fault_samples, 1 << 10, 4),
        )
    ]


def _refuse_failures(course: Course) -> None:
    """Without these measurements of Headrace itself there are no figures."""
    failures = [
        f"{failure['where']}: {failure['error']}"
        for failure in course.tables["failures"]
        if failure["contestant"] == HEADRACE.name
    ]
    if failures:
        raise HeadraceError("Headrace could not be measured: " + "; ".join(failures))


def _memory_table(memory: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "contestant": name,
            "anonymous MiB before": found["anonymous_before_mib"],
            "after 10 % of an epoch": found["anonymous_tenth_mib"],
            "after all of it": found["anonymous_mib"],
            "peak MiB with mapped files": found["peak_mib"],
        }
        for name, found in memory.items()
    ]


def _figures(rows: Sequence[Row], memory: dict[str, Any]) -> dict[str, float]:
    """The promised figures; those of peers that are not there are left out."""
    by_group: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_group.setdefault(row.group, {})[row.name] = row
    figures: dict[str, float] = {}

    def compare(figure: str, group: str, peer: str) -> None:
        ours, other = by_group.get(group, {}).get(HEADRACE.name), by_group.get(group, {}).get(peer)
        if ours and other:
            figures[figure] = ours.median / other.median

    raw = f"{SMALL}, page cache, 0 workers"
    compare("raw_vs_litdata", raw, "litData")
    compare("raw_vs_webdataset", raw, "webdataset")
    compare("raw_vs_litdata_views", raw, "litData, views")
    compare("raw_vs_litdata_2_workers", f"{SMALL}, page cache, 2 workers", "litData")
    compare("raw_vs_litdata_16_kb", f"{LARGE}, page cache, 0 workers", "litData")
    compare("raw_vs_webdataset_16_kb", f"{LARGE}, page cache, 0 workers", "webdataset")
    for row in rows:
        if row.name == HEADRACE.name and row.group.startswith(f"{SMALL}, HTTP"):
            name = "failing" if "failing" in row.group else "delayed"
            figures[f"http_{name}_samples_per_s"] = row.median
            compare(f"http_{name}_vs_webdataset", row.group, "webdataset")
    ours = by_group[raw][HEADRACE.name]
    encoded = by_group[stream_encoded.GROUP]
    sidecars = encoded[stream_encoded.ENCODED]
    figures |= {
        "raw_samples_per_s": ours.median,
        "cpu_us_a_sample": ours.facts["cpu_us_a_sample"],
        "encoded_vs_online": sidecars.median / encoded[stream_encoded.ONLINE].median,
        "encoded_vs_online_workers": sidecars.median
        / encoded[stream_encoded.ONLINE_WORKERS].median,
        "encoded_samples_per_s": sidecars.median,
        "encoded_tokens_per_s": sidecars.facts["tokens_per_s"],
        "first_batch_ms": ours.facts["first_batch_ms"],
    }
    resumed = [by_group[f"resume at {depth:.0%} of an epoch"][HEADRACE.name] for depth in DEPTHS]
    figures["resume_ms"] = max(row.median for row in resumed)
    for depth, row in zip(DEPTHS, resumed, strict=True):
        figures[f"resume_ms_{depth}"] = row.median
    figures["state_bytes"] = max(row.facts["state_bytes"] for row in resumed)
    figures["resume_lost_or_repeated"] = sum(
        row.facts["samples_lost"] + row.facts["samples_repeated"] for row in resumed
    )
    found = memory[HEADRACE.name]
    figures["peak_mib"] = found["peak_mib"]
    figures["memory_growth_mib"] = found["anonymous_mib"] - found["anonymous_tenth_mib"]
    return figures


def _describe(sizes: Settings, small: DataSet, large: DataSet, remote: DataSet) -> dict[str, str]:
    def of(data: DataSet) -> str:
        return (
            f"{data.samples:,} samples of {data.payload_bytes / data.samples:,.0f} bytes on "
            f"average in {len(data.files)} plain tars of {data.tar_bytes / 1e6:,.0f} MB together"
        )

    return {
        "text": "documents made of sentences of the built-in sample corpus in five languages",
        SMALL: of(small),
        LARGE: of(large),
        "HTTP": f"{of(remote)}; loopback, {1e3 * DELAY_S:.0f} ms before every answer",
        "token ids": f"{sizes.documents:,} documents, vocabulary {sizes.vocabulary:,}",
        "batches": f"{BATCH_SIZE} samples, shuffled; rates do not count the first batch",
        "processes": f"a fresh one a measurement, stopped after {sizes.seconds:g} s",
    }
