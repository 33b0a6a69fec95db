"""Entity spans from IOB2 tags, by the two rules in use for tags that do not fit together.

Model output may hold an inside tag (``I-x``) that no begin tag (``B-x``) leads to.  Both rules
agree on well-formed tags and differ on those:

- strict: an ``I-x`` extends a span only if the word before it belongs to a span of type x.
  Every other ``I-x`` belongs to no span, and it ends the span before it.  This is ``seqeval``
  with ``mode="strict", scheme=IOB2``.
- lenient: an ``I-x`` that does not extend a span of type x begins a new span of type x.  This is
  the ``conlleval`` script of CoNLL-2003 and ``seqeval`` without a mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""


class Span(NamedTuple):
    """An entity: words ``start`` to ``end`` (exclusive), counted from 0, and its type."""

    start: int
    end: int
    type: str


def strict_spans(tags: Sequence[str]) -> list[Span]:
    """Spans of one sentence by the strict rule, in order; they never overlap."""
    return _spans(tags, inside_may_begin=False)


def lenient_spans(tags: Sequence[str]) -> list[Span]:
    """Spans of one sentence by the lenient rule, in order; they never overlap."""
    return _spans(tags, inside_may_begin=True)


def tags_of_spans(spans: Iterable[Span], length: int) -> list[str]:
    """Well-formed IOB2 tags of a sentence of ``length`` words with these spans.

    The spans must not overlap.  Both rules read exactly these spans from the tags.
    """
    tags = [OUTSIDE] * length
    for span in spans:
        tags[span.start] = f"B-{span.type}"
        tags[span.start + 1 : span.end] = [f"I-{span.type}"] * (span.end - span.start - 1)
    return tags


def _spans(tags: Sequence[str], *, inside_may_begin: bool) -> list[Span]:
    spans = []
    start: int | None = None
    open_type = ""
    for position, tag in enumerate(tags):
        prefix, _, type_ = tag.partition("-")
        if prefix == "I" and start is not None and type_ == open_type:
            continue
        if start is not None:
            spans.append(Span(start, position, open_type))
            start = None
        if prefix == "B" or (prefix == "I" and inside_may_begin):
            start, open_type = position, type_
    if start is not None:
        spans.append(Span(start, len(tags), open_type))
    return spans
