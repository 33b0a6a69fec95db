"""Readers of corpus files: each yields samples, and reports all that is wrong with a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from headrace.corpus.readers.conll import LAYOUTS, read_conll
from headrace.corpus.readers.detect import detect_format
from headrace.corpus.readers.findings import Findings
from headrace.corpus.readers.jsonl import read_jsonl
from headrace.corpus.readers.labelled import LABELLED_FORMATS, Columns, read_labelled
from headrace.corpus.readers.multiple_choice import CHOICE_LAYOUTS, read_questions
from headrace.corpus.readers.story_cloze import read_story_cloze
from headrace.errors import CorpusError, Problem
from headrace.shards.sample import Sample

CHOICE_FORMATS = (*CHOICE_LAYOUTS, "story_cloze")
"""The formats whose samples are multiple-choice questions."""
FORMATS = (*LAYOUTS, "jsonl", *LABELLED_FORMATS, *CHOICE_FORMATS)
"""The formats :func:`read` knows, beside ``auto``."""


def read(
    url: str,
    format: str = "auto",
    *,
    language: str = "und",
    subset: str | None = None,
    findings: Findings | None = None,
    columns: Columns | None = None,
) -> Iterator[Sample]:
    """Yield the samples of one corpus file in their order.

    Args:
        url: The file, plain or gzip (told by its first bytes).
        format: One of ``FORMATS``, or ``auto`` to look at the file.
        language: BCP-47 tag that goes into each sample.
        subset: Name of the subset that goes into each sample (``clean``, ``noisy``).
        findings: Collects problems, repairs and repeated ids; give one to have the repairs made
            (``Findings(url, repair=True)``) or to see what was found.
        columns: Which columns hold the texts and the labels, of one of ``LABELLED_FORMATS``.

    A damaged sentence does not stop the reading: :class:`CorpusError` with all problems of the
    file is raised behind the last sample.  Nothing that was yielded before it should be kept.
    """
    if format not in (*FORMATS, "auto"):
        raise CorpusError(
            Problem("no such format", "format", format, f"Use one of auto, {', '.join(FORMATS)}")
        )
    found = findings if findings is not None else Findings(url)
    chosen = detect_format(url, columns) if format == "auto" else format
    count = 0
    for sample in _reader(chosen, columns)(url, chosen, language, subset, found):
        count += 1
        yield sample
    if count == 0 and not found.total:
        found.add(1, "the file is empty: no sentence in it", None, "Check the path")
    found.raise_if_any()


def _reader(
    format: str, columns: Columns | None
) -> Callable[[str, str, str, str | None, Findings], Iterator[Sample]]:
    if format in LAYOUTS:
        return read_conll
    if format in LABELLED_FORMATS:
        return partial(read_labelled, columns=columns)
    if format in CHOICE_LAYOUTS:
        return read_questions
    return read_story_cloze if format == "story_cloze" else read_jsonl


__all__ = [
    "CHOICE_FORMATS",
    "FORMATS",
    "LABELLED_FORMATS",
    "Columns",
    "Findings",
    "detect_format",
    "read",
]
