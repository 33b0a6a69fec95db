"""The folder of a selection: the chosen ids in their order, the report and its page."""

from __future__ import annotations

import io
import json
import logging
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import xxhash
from numpy.typing import NDArray

from headrace.errors import MissingExtraError, Problem, SelectionError
from headrace.report.selection_page import render_selection
from headrace.selection.chosen import Selection
from headrace.selection.knee import knee_warning
from headrace.selection.measures import Coverage, Measures
from headrace.selection.projection import Map
from headrace.shards import storage
from headrace.stream.selected import FORMAT_VERSION, REPORT, ROWS, hash_of_rows

PAGE = "report.html"
_ROW_GROUP = 1 << 16
"""Rows of a row group of the Parquet file."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates:
    """What was there to choose from."""

    ids: NDArray[np.bytes_]
    """``[rows]``, UTF-8."""
    groups: NDArray[np.int32]
    """``[rows]``: number of the group of each row."""
    group_names: tuple[str, ...]
    costs: NDArray[np.int64] | None = None
    """``[rows]``: tokens of each row."""


def finished(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The report of this very selection if the folder holds it whole, None if there is nothing.

    Raises:
        SelectionError: if the folder holds something else.
    """
    path = folder / REPORT
    if not path.exists():
        return None
    remedy = "Choose another --output, or delete it"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        same = report["version"] == FORMAT_VERSION and report["fingerprint"] == fingerprint
        whole = not same or report["rows_hash"] == hash_of_rows(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SelectionError(
            Problem("the selection in the folder cannot be read", str(folder), str(error), remedy)
        ) from error
    if not same:
        raise SelectionError(
            Problem("the folder holds another selection", str(folder), None, remedy)
        )
    if not whole:
        raise SelectionError(Problem(f"{ROWS} is not what was written", str(folder), None, remedy))
    return dict(report)


def write(
    folder: Path,
    found: Selection,
    candidates: Candidates,
    measures: Measures,
    rows_on_map: Map,
    *,
    fingerprint: str,
    settings: Mapping[str, Any],
    seconds: Mapping[str, float],
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the rows, the page and then the report, each whole; return the report.

    Without the libraries of the extra ``report`` there is no page, and a warning says so.
    ``sources`` are the fingerprints of the manifests by name; None for ready-made vectors.
    """
    rows = _rows(found, candidates, fingerprint)
    report = {
        "version": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "rows_hash": xxhash.xxh3_128_hexdigest(rows),
        "settings": dict(settings),
        "sources": None if sources is None else dict(sources),
        "rows": len(candidates.ids),
        "chosen": len(found.rows),
        "maximised": found.of,
        "method": found.method,
        "trade_off": found.trade_off,
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
        "passes": found.passes,
        "knee": found.knee if np.isfinite(found.knee) else None,
        "first_negative_gain": found.first_negative_gain,
        "suggested_trade_off": found.suggested_trade_off,
        "graph": None if found.graph is None else asdict(found.graph),
        "penalty": found.penalty,
        "dense_objective": found.dense_objective,
        "groups": _shares(found, candidates),
        "tokens": _tokens(found, candidates),
        "duplicates": asdict(measures.duplicates),
        "coverage": _coverage(measures.coverage),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    storage.make_folder(str(folder))
    storage.write_atomically(str(folder / ROWS), rows)
    _write_page(folder, report, found, rows_on_map)
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    storage.write_atomically(str(folder / REPORT), text.encode("utf-8"))
    return report


def _write_page(
    folder: Path, report: Mapping[str, Any], found: Selection, rows_on_map: Map
) -> None:
    name = folder.resolve().name
    try:
        page = render_selection(
            name, report, found.gains.tolist(), rows_on_map, knee_warning(report, "a lambda of")
        )
    except MissingExtraError as error:
        _log.warning("%s is left out: %s", PAGE, error.problems[0])
        return
    storage.write_atomically(str(folder / PAGE), page.encode("utf-8", errors="replace"))


def _rows(found: Selection, candidates: Candidates, fingerprint: str) -> bytes:
    """The chosen rows as a Parquet file, the same bytes for the same rows."""
    ids = pyarrow.array(candidates.ids[found.rows].tolist(), pyarrow.binary())
    table = pyarrow.table(
        {
            "id": ids.cast(pyarrow.string()),
            "rank": np.arange(1, len(found.rows) + 1, dtype=np.int64),
            "gain": found.gains,
            "score": found.scores,
        },
        metadata={"fingerprint": fingerprint},
    )
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, row_group_size=_ROW_GROUP)
    return buffer.getvalue()


def _shares(found: Selection, candidates: Candidates) -> dict[str, dict[str, float]]:
    names = candidates.group_names
    before = np.bincount(candidates.groups, minlength=len(names))
    after = np.bincount(candidates.groups[found.rows], minlength=len(names))
    return {
        name: {
            "rows": int(rows),
            "chosen": int(chosen),
            "share_before": float(rows / before.sum()),
            "share_after": float(chosen / max(1, after.sum())),
        }
        for name, rows, chosen in zip(names, before, after, strict=True)
    }


def _coverage(coverage: Coverage) -> dict[str, Any] | None:
    if not coverage.sizes:
        return None
    chosen, random = (
        [round(value, 6) for value in values] for values in (coverage.chosen, coverage.random)
    )
    return {
        "chosen": chosen[-1],
        "random": random[-1],
        "random_deviation": round(coverage.random_deviation, 6),
        "measured": coverage.measured,
        "heads": {"rows": list(coverage.sizes), "chosen": chosen, "random": random},
    }


def _tokens(found: Selection, candidates: Candidates) -> dict[str, int] | None:
    if candidates.costs is None:
        return None
    return {
        "rows": int(candidates.costs.sum()),
        "chosen": int(candidates.costs[found.rows].sum()),
    }
