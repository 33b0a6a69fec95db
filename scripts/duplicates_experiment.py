"""Measure how many near-duplicates are found, and what signatures cost, and write it down.

``HEADRACE_DATA=DIR python scripts/duplicates_experiment.py`` writes
``docs/results/duplicates.json``; ``scripts/duplicates_table.py`` makes the tables of it.  Where
datasketch is installed its signatures are timed beside ours, on the same shingles.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.corpus.documents import content_hash, document_id
from headrace.corpus.duplicates import (
    DuplicatesSettings,
    NearSettings,
    Part,
    Signer,
    find_duplicates,
    read_decisions,
)
from headrace.corpus.duplicates.bands import band_keys, bands_and_rows
from headrace.corpus.duplicates.shingles import shingle_sequence, shingles
from headrace.corpus.duplicates.signatures import SIGNATURE, similarity
from headrace.corpus.duplicates.texts import jaccard

ROOT = Path(__file__).parents[1]
SETS = (("licence_texts", "words"), ("udhr_variants", "characters"))
THRESHOLD = 0.8
PERMUTATIONS = (64, 128, 256)
_ROUNDS = 3
Pair = tuple[str, str]


def measure(data: Path) -> dict[str, Any]:
    """All figures."""
    folder = data / "near_duplicates"
    return {
        "name": "duplicates",
        "threshold": THRESHOLD,
        "sets": [
            row
            for name, unit in SETS
            for row in against_gold(name, read(folder / f"{name}.jsonl"), gold(folder, name), unit)
        ],
        "sentences": sentences(read(folder / "ntrex_variants.jsonl")),
        "speed": speed(data),
        "versions": {
            name: importlib.metadata.version(name) for name in ("rensa", "datasketch", "numpy")
        },
    }


def read(file: Path) -> dict[str, str]:
    """Texts by id."""
    return {line["id"]: line["text"] for line in _lines(file)}


def gold(folder: Path, name: str) -> dict[Pair, float]:
    """Exact similarity of all pairs from 0.2 on."""
    lines = (folder / f"{name}.pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return {_pair(a, b): float(value) for a, b, value in rows}


def against_gold(
    name: str, texts: Mapping[str, str], pairs: Mapping[Pair, float], unit: str
) -> list[dict[str, Any]]:
    """Precision and recall of pairs, for every number of permutations and both checks."""
    rows = []
    for permutations in PERMUTATIONS:
        near = NearSettings.model_validate(
            {"threshold": THRESHOLD, "permutations": permutations, "unit": unit}
        )
        candidates, estimates = proposed(texts, near)
        error = 3 * (THRESHOLD * (1 - THRESHOLD) / permutations) ** 0.5
        sets = {key: shingles(text, near) for key, text in texts.items()}
        checks: dict[str, Callable[[Pair], bool]] = {
            "none": lambda pair: True,
            "signature": lambda pair, estimates=estimates: estimates[pair] >= THRESHOLD,  # type: ignore[misc]
            "text": lambda pair, estimates=estimates, sets=sets, error=error: (  # type: ignore[misc]
                jaccard(sets[pair[0]], sets[pair[1]]) >= THRESHOLD
                if abs(estimates[pair] - THRESHOLD) <= error
                else estimates[pair] >= THRESHOLD
            ),
        }
        for check, accepts in checks.items():
            found = {pair for pair in candidates if accepts(pair)}
            rows.append(
                {
                    "set": name,
                    "documents": len(texts),
                    "unit": unit,
                    "permutations": permutations,
                    "bands": bands_and_rows(THRESHOLD, permutations),
                    "check": check,
                    "candidates": len(candidates),
                    **scores(found, pairs),
                }
            )
    return rows


def proposed(texts: Mapping[str, str], near: NearSettings) -> tuple[set[Pair], dict[Pair, float]]:
    """Pairs with a band in common, and their estimated similarity."""
    signer = Signer(near)
    signatures = {key: signer.signature(text) for key, text in texts.items()}
    buckets: dict[int, list[str]] = defaultdict(list)
    shape = bands_and_rows(near.threshold, near.permutations)
    for key, signature in signatures.items():
        if signature is not None:
            for band in band_keys(signature[None], *shape)[0].tolist():
                buckets[band].append(key)
    pairs = {_pair(a, b) for keys in buckets.values() for a, b in combinations(keys, 2)}
    estimates = {}
    for a, b in pairs:
        left, right = signatures[a], signatures[b]
        assert left is not None
        assert right is not None
        estimates[a, b] = float(similarity(left, right))
    return pairs, estimates


def scores(found: set[Pair], pairs: Mapping[Pair, float]) -> dict[str, Any]:
    """Counts by the exact similarity of the pairs."""
    right = {pair for pair, value in pairs.items() if value >= THRESHOLD}
    missed = [pairs[pair] for pair in right - found]
    wrong = [pairs.get(pair, 0.0) for pair in found - right]
    return {
        "gold": len(right),
        "found": len(found),
        "hit": len(found & right),
        "missed": sorted(missed, reverse=True),
        "wrong": sorted(wrong, reverse=True)[:20],
    }


def sentences(texts: Mapping[str, str]) -> dict[str, Any]:
    """Exact copies and near-copies of single sentences, by the whole search."""
    groups = Counter(texts.values())
    near = NearSettings(threshold=THRESHOLD)
    rows = {key: shingles(text, near).tolist() for key, text in texts.items()}
    places = defaultdict(list)
    for key, own in rows.items():
        for shingle in own:
            places[shingle].append(key)
    common: Counter[Pair] = Counter(
        _pair(a, b) for keys in places.values() for a, b in combinations(keys, 2)
    )
    alike = [
        (pair, count / (len(rows[pair[0]]) + len(rows[pair[1]]) - count))
        for pair, count in common.items()
    ]
    right = {pair for pair, value in alike if value >= THRESHOLD}
    exact = search(texts, DuplicatesSettings(near=None))
    clusters = search(texts, DuplicatesSettings(near=near))
    found = {_pair(a, b) for keys in clusters.values() for a, b in combinations(keys, 2)}
    copies = {_pair(a, b) for keys in exact.values() for a, b in combinations(keys, 2)}
    same_line = {
        _pair(a, b)
        for keys in _by(texts, lambda key: (key[:3], key.rpartition(":")[2])).values()
        for a, b in combinations(keys, 2)
    }
    return {
        "documents": len(texts),
        "copies": sum(count * (count - 1) // 2 for count in groups.values()),
        "copies_found": len(copies),
        "copies_right": sum(texts[a] == texts[b] for a, b in copies),
        "near": len(right),
        "near_found": len(found),
        "near_hit": len(found & right),
        "same_sentence": len(same_line),
        "same_sentence_found": len(found & same_line),
    }


def search(texts: Mapping[str, str], settings: DuplicatesSettings) -> dict[str, list[str]]:
    """Keys by cluster, from a search over one part on disk."""
    signer = Signer(settings.near) if settings.near is not None else None
    keys = list(texts)
    rows = []
    for key in keys:
        signature = signer.signature(texts[key]) if signer is not None else None
        rows.append(
            {
                "outcome": "kept",
                "id": document_id("ntrex", key),
                "content_hash": content_hash(texts[key]),
                "characters": len(texts[key]),
                "text": texts[key].encode(),
                SIGNATURE: None if signature is None else signature.astype("<u4").tobytes(),
            }
        )
    clusters: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.parquet"
        pq.write_table(pa.Table.from_pylist(rows), file)
        stages = Path(folder) / "search"
        find_duplicates([Part(file, "ntrex")], stages, settings)
        for row, decision in read_decisions(stages, 0).items():
            clusters[decision.cluster].append(keys[row])
    return clusters


def speed(data: Path) -> list[dict[str, Any]]:
    """Documents a second of processor time, the median of some rounds."""
    texts: dict[str, list[str]] = {}
    for language in ("en", "hi", "zh"):
        file = data / "tldr_docs" / f"{language}.jsonl"
        texts[f"tldr_docs {language}"] = [line["text"] for line in _lines(file)]
    texts["licence_texts"] = list(read(data / "near_duplicates" / "licence_texts.jsonl").values())
    rows = []
    for name, own in texts.items():
        ways: dict[str, Callable[[str], object]] = {
            "shingles only": lambda text: shingle_sequence(text, NearSettings())
        }
        for permutations in PERMUTATIONS:
            ways[f"rensa, {permutations}"] = Signer(
                NearSettings(permutations=permutations)
            ).signature
        ways |= _datasketch()
        times = {way: _seconds(run, own) for way, run in ways.items()}
        size = sum(len(text.encode()) for text in own)
        rows.append(
            {
                "set": name,
                "documents": len(own),
                "bytes": size,
                "documents_per_s": {way: len(own) / seconds for way, seconds in times.items()},
                "megabytes_per_s": {way: size / seconds / 1e6 for way, seconds in times.items()},
            }
        )
    return rows


def _datasketch() -> dict[str, Callable[[str], object]]:
    try:
        from datasketch import MinHash
    except ImportError:
        return {}

    def signature(text: str) -> object:
        sketch = MinHash(num_perm=128, hashfunc=lambda value: value)
        sketch.update_batch(
            [int(one) & 0xFFFFFFFF for one in shingle_sequence(text, NearSettings())]
        )
        return sketch.hashvalues

    return {"datasketch, 128": signature}


def _seconds(run: Callable[[str], object], texts: Sequence[str]) -> float:
    rounds = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        for text in texts:
            run(text)
        rounds.append(time.process_time() - start)
    return sorted(rounds)[_ROUNDS // 2]


def _lines(file: Path) -> list[dict[str, Any]]:
    # Not splitlines(): texts have line separators of Unicode's own.
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _pair(a: str, b: str) -> Pair:
    return (a, b) if a < b else (b, a)


def _by(keys: Iterable[str], of: Callable[[str], object]) -> dict[object, list[str]]:
    groups: dict[object, list[str]] = defaultdict(list)
    for key in keys:
        groups[of(key)].append(key)
    return groups


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "results" / "duplicates.json"
    )
    arguments = parser.parse_args()
    result = {
        **measure(Path(os.environ["HEADRACE_DATA"])),
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "environment": {"python": platform.python_version(), "machine": platform.machine()},
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
