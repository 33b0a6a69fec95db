"""Web pages: a file is a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.web_page import WebPage, page_of


class HtmlReader(Reader):
    """The main text of a page of HTML or XHTML."""

    name = "html"
    suffixes = (".html", ".htm", ".xhtml", ".shtml")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        settings = file.settings
        page = page_of(file.content(), settings.html, settings.encoding)
        yield Record(file.key, page.text, format=self.name, **facts_of(page))


def facts_of(page: WebPage) -> dict[str, Any]:
    """What a page says of itself, as members of a record."""
    metadata: dict[str, Any] = {"extraction": page.method}
    if page.licence_links:
        metadata["licence_links"] = list(page.licence_links)
    return {
        "encoding": page.encoding,
        "language": page.language,
        "title": page.title,
        "licence": page.licence,
        "metadata": metadata,
    }
