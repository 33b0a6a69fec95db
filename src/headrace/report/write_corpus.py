"""Writes the report of a corpus into its folder: ``report.html`` and ``report.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from headrace.corpus.catalogue.catalogue import Catalogue, sources_of
from headrace.corpus.catalogue.filters_of_another import what_filters_leave_out
from headrace.corpus.catalogue.speakers import Speakers
from headrace.corpus.catalogue.summary import summarise
from headrace.corpus.catalogue.tokens import count_tokens
from headrace.report.corpus_page import Comparison, render_corpus
from headrace.report.corpus_tables import comparison_table, filters_matrix
from headrace.shards import storage

REPORT_NAME = "report.json"
PAGE_NAME = "report.html"


def write_corpus_report(
    url: str,
    compare: Sequence[str] = (),
    speakers: Speakers | None = None,
    tokenizer: str | None = None,
    token_sample: int | None = None,
) -> dict[str, Any]:
    """Write both files, each whole or not at all, and return what ``report.json`` holds.

    Args:
        url: folder of the corpus.
        compare: folders of other corpora.
        speakers: of languages, to compare their shares with.
        tokenizer: folder or name of the one whose tokens are counted; None: no tokens.
        token_sample: documents of each language and source whose tokens are counted; None: all.

    Raises :class:`~headrace.errors.UserError` if a folder holds no corpus, and
    :class:`~headrace.errors.MissingExtraError` where duckdb, jinja2 or matplotlib is missing.
    """
    comparisons = []
    with Catalogue(url) as catalogue:
        tokens = None
        if tokenizer is not None:
            tokens = count_tokens(catalogue, tokenizer, token_sample)
        summary = summarise(catalogue, speakers, tokens)
        summary["comparisons"] = []
        for other_url in compare:
            with Catalogue(other_url) as other:
                theirs = summarise(other)
                filters = what_filters_leave_out(catalogue, other.corpus, other_url)
            entry = {name: theirs[name] for name in ("name", "version", "totals", "by", "removal")}
            summary["comparisons"].append({**entry, "url": other_url, "filters": filters})
            comparisons.append(
                Comparison(
                    theirs["name"],
                    comparison_table(summary, theirs),
                    filters_matrix(filters, summary, theirs["name"]),
                )
            )
        page = render_corpus(summary, catalogue.corpus, sources_of(catalogue.corpus), comparisons)
    text = json.dumps(summary, ensure_ascii=False, indent=1) + "\n"
    storage.write_atomically(storage.join(url, REPORT_NAME), text.encode("utf-8"))
    storage.write_atomically(storage.join(url, PAGE_NAME), page.encode("utf-8", "replace"))
    return summary
