"""RTF: the text, by striprtf."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.optional import needed
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.source_file import SourceFile


class RtfReader(Reader):
    """A file is a document; tables are lines with bars between their cells."""

    name = "rtf"
    suffixes = (".rtf",)
    magic = (b"{\\rtf",)

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        striprtf = needed("striprtf.striprtf", "striprtf", "reading RTF")
        # A file of RTF is ASCII; it says itself in which encodings its escaped bytes are.
        markup = file.content().decode("latin-1")
        text = striprtf.rtf_to_text(markup, errors="ignore")
        yield Record(file.key, text.replace("\0", ""), format=self.name)
