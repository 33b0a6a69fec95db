"""The tables of duplicates, from their result file to docs/duplicates.md.

``python scripts/duplicates_table.py`` writes what ``docs/results/duplicates.json`` says between the
markers ``<!-- duplicates -->`` of ``docs/duplicates.md``.  ``scripts/duplicates_experiment.py``
makes that file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.report.table import Table

ROOT = Path(__file__).parents[1]
MARKER = "<!-- duplicates -->"
COMMAND = "HEADRACE_DATA=DIR python scripts/duplicates_experiment.py"
_CHECKS = {"none": "LSH alone", "signature": "signature", "text": "text"}


def render(result: Mapping[str, Any]) -> str:
    """Return the tables."""
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    lines = [f"`{COMMAND}`, {result['created']}; {versions}.", ""]
    lines += [
        f"**Pairs with an exact Jaccard similarity of {result['threshold']} or more**, among all "
        "pairs of the documents. Missed and wrong: lowest and highest similarity, of the "
        "wrong ones that of the twenty highest.",
        "",
        pairs_table(result["sets"]).markdown(),
        sentences_lines(result["sentences"]),
        "",
        "**Signatures, documents a second** of processor time on one core of a machine that was "
        "busy with other work; in brackets MB/s of UTF-8.",
        "",
        speed_table(result["speed"]).markdown(),
    ]
    return "\n".join(lines).strip() + "\n"


def pairs_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Precision and recall by set, permutations and check."""
    columns = ("Set", "Check", "Permutations", "Bands x rows", "Pairs", "Precision", "Recall",
               "Missed", "Wrong")  # fmt: skip
    cells = []
    for row in rows:
        bands, values = row["bands"]
        cells.append(
            (
                f"{row['set']} ({row['documents']} texts, {row['unit']})",
                _CHECKS[row["check"]],
                str(row["permutations"]),
                f"{bands} x {values}",
                str(row["gold"]),
                share(row["hit"], row["found"]),
                share(row["hit"], row["gold"]),
                spread(row["missed"]),
                spread(row["wrong"]),
            )
        )
    return Table("pairs", columns, tuple(cells), names=2)


def sentences_lines(counts: Mapping[str, int]) -> str:
    """What is found among single sentences."""
    return (
        f"**Sentences**: {counts['documents']:,} of ntrex_variants, in regional variants. Exact "
        f"copies: {counts['copies_found']:,} of {counts['copies']:,} pairs found, "
        f"{counts['copies_found'] - counts['copies_right']} wrong. Near-duplicates by their words: "
        f"{counts['near_hit']:,} of {counts['near']:,} found, "
        f"{counts['near_found'] - counts['near_hit']} wrong. Of all {counts['same_sentence']:,} "
        f"pairs that are the same sentence in two variants, {counts['same_sentence_found']:,} are "
        "found: a changed word is in five shingles, and a sentence has few."
    )


def speed_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Documents and megabytes a second, by way."""
    ways = list(rows[0]["documents_per_s"])
    cells = [
        (
            f"{row['set']} ({row['bytes'] / row['documents'] / 1000:.1f} kB a document)",
            *(f"{row['documents_per_s'][w]:,.0f} ({row['megabytes_per_s'][w]:.1f})" for w in ways),
        )
        for row in rows
    ]
    return Table("speed", ("Set", *ways), tuple(cells))


def share(part: int, whole: int) -> str:
    """A share in per cent, with its counts."""
    return f"{100 * part / whole:.1f} % ({part}/{whole})" if whole else "-"


def spread(values: Sequence[float]) -> str:
    """The lowest and the highest."""
    return f"{min(values):.3f} to {max(values):.3f}" if values else "-"


def put_into(page: str, result: Mapping[str, Any]) -> str:
    """Return the page with the tables between its markers."""
    before, _, after = page.split(MARKER)
    return f"{before}{MARKER}\n{render(result)}{MARKER}{after}"


def main() -> None:
    """Run the script."""
    result = json.loads((ROOT / "docs" / "results" / "duplicates.json").read_text(encoding="utf-8"))
    page = ROOT / "docs" / "duplicates.md"
    page.write_text(put_into(page.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
