"""Markdown: the text with its marks, and what its front matter says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.encodings import decoded
from headrace.corpus.media.optional import needed
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.source_file import SourceFile

_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\r?\n(.{0,65536}?)\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL
)


class MarkdownReader(Reader):
    """A file is one text; marks are kept, since the text is written with them."""

    name = "markdown"
    suffixes = (".md", ".markdown")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file; ``title``, ``lang``, ``license``, ``date`` of its front."""
        text, encoding = decoded(file.content(), file.settings.encoding)
        front, text = _front_matter(text)
        yield Record(
            file.key,
            text,
            language=_text(front, "lang", "language"),
            licence=_text(front, "license", "licence"),
            title=_text(front, "title"),
            collected_at=_text(front, "date"),
            format=self.name,
            encoding=encoding,
        )


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The YAML between two lines of hyphens at the beginning, if it is a mapping, and the rest."""
    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    yaml = needed("yaml", "pyyaml", "reading Markdown")
    try:
        front = yaml.safe_load(found.group(1))
    except (yaml.YAMLError, ValueError):
        return {}, text
    return (front, text[found.end() :]) if isinstance(front, dict) else ({}, text)


def _text(front: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = front.get(name)
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None
