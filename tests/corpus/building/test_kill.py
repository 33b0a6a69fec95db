import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def start(recipe, out) -> subprocess.Popen:
    command = [sys.executable, "-m", "headrace.cli", "build", "--recipe", str(recipe)]
    return subprocess.Popen(
        [*command, "--output", str(out), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_it_gives_the_same_bytes(corpus):
    rows = [
        {
            "id": f"d{n}",
            "text": f"{corpus.sentence(n, 30)} {n}",
            "language": ("en", "de", "fr")[n % 3],
        }
        for n in range(2400)
    ]
    files = [corpus.jsonl(f"{n}.jsonl", rows[n * 200 : (n + 1) * 200]) for n in range(12)]
    recipe = corpus.recipe(
        {"id": "s", "files": files},
        duplicates={"near": None},
        limits={"part": "100 kB"},
        output={"samples_per_shard": 20},
    )
    corpus.build(recipe, out="whole")
    work = corpus.out / ".build"
    moments = (
        lambda: len(lines(work / "parts.jsonl")) >= 2,
        lambda: len(lines(work / "parts.jsonl")) >= 7,
        lambda: len(lines(work / "shards.jsonl")) >= 3,
        lambda: len(lines(work / "shards.jsonl")) >= 40,
    )
    times: dict[str, int] = {}
    for reached in moments:
        process = start(recipe, corpus.out)
        while not reached() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for kind, suffix in (("parts", "parquet"), ("shards", "tar")):
            for row in lines(work / f"{kind}.jsonl"):
                if kind == "parts":
                    path = work / "parts" / f"{row['part']:06d}.{suffix}"
                else:
                    path = corpus.out / row["language"] / row["entry"]["name"]
                changed = path.stat().st_mtime_ns
                assert times.setdefault(str(path), changed) == changed, "it was done again"
    assert len(times) > 45, "the build was killed in the middle of its shards"
    assert start(recipe, corpus.out).wait() == 0
    assert corpus.tree(corpus.out) == corpus.tree(corpus.folder / "whole")
    assert all(
        Path(path).stat().st_mtime_ns == changed
        for path, changed in times.items()
        if ".tar" in path
    )
