"""Plain text: a file is a document."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.encodings import decoded
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.source_file import SourceFile


class TextReader(Reader):
    """A file is one text, in any encoding."""

    name = "text"
    suffixes = (".txt", ".text")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        data = file.content()
        text, encoding = decoded(data, file.settings.encoding)
        yield Record(file.key, text, format=self.name, encoding=encoding)
