"""Which readers there are, and which of them reads a file.

Packages outside of Headrace bring readers with entry points of the group ``headrace.readers``,
whose name is the ``format`` in recipes; docs/documents.md has a whole one.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from headrace.corpus.media.conll import ConllReader
from headrace.corpus.media.delimited import CsvReader, TsvReader
from headrace.corpus.media.docx import DocxReader
from headrace.corpus.media.epub import EpubReader
from headrace.corpus.media.html import HtmlReader
from headrace.corpus.media.json_lines import JsonLinesReader
from headrace.corpus.media.lines import LinesReader
from headrace.corpus.media.mail import MailReader
from headrace.corpus.media.markdown import MarkdownReader
from headrace.corpus.media.ocr import ImageReader
from headrace.corpus.media.odt import OdtReader
from headrace.corpus.media.parquet import ParquetReader
from headrace.corpus.media.pdf import PdfReader
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.rtf import RtfReader
from headrace.corpus.media.text import TextReader
from headrace.corpus.media.warc import WarcReader
from headrace.errors import CorpusError, Problem

GROUP = "headrace.readers"
_BUILT_IN: dict[str, type[Reader]] = {
    reader.name: reader
    for reader in (
        TextReader,
        LinesReader,
        JsonLinesReader,
        CsvReader,
        TsvReader,
        ParquetReader,
        HtmlReader,
        WarcReader,
        PdfReader,
        ImageReader,
        DocxReader,
        OdtReader,
        EpubReader,
        MailReader,
        MarkdownReader,
        ConllReader,
        RtfReader,
    )
}


def formats() -> list[str]:
    """Names of all formats: those of Headrace, and those of installed packages, sorted."""
    return sorted(_BUILT_IN.keys() | {entry.name for entry in entry_points(group=GROUP)})


@cache
def reader_of(name: str) -> Reader:
    """The reader of a format.

    Raises:
        CorpusError: if there is none, several packages bring it, one cannot be imported, or it is
            not a reader of this name.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    return _plug_in(name)()


@cache
def all_readers() -> tuple[Reader, ...]:
    """Every reader, those of Headrace first."""
    return tuple(
        reader_of(name) for name in sorted(formats(), key=lambda name: name not in _BUILT_IN)
    )


def _plug_in(name: str) -> type[Reader]:
    entries = list(entry_points(group=GROUP, name=name))
    sources = sorted({_origin(entry) for entry in entries})
    where = f"entry point {GROUP}: {name}"
    if not sources:
        raise CorpusError(
            Problem(
                "no reader of this format",
                "format",
                name,
                f"Use auto or one of {', '.join(formats())}",
            )
        )
    if len(sources) > 1:
        raise CorpusError(
            Problem(
                "several packages bring this reader",
                where,
                ", ".join(sources),
                "Remove all but one",
            )
        )
    try:
        found = entries[0].load()
    except Exception as error:  # whatever the code of another package raises when it is imported
        what = f"the reader cannot be imported: {type(error).__name__}: {error}"
        raise CorpusError(
            Problem(what, where, sources[0], "Repair or remove the package")
        ) from error
    if not (
        isinstance(found, type)
        and issubclass(found, Reader)
        and getattr(found, "name", None) == name
    ):
        what = f"not a reader of this name: a subclass of {Reader.__module__}.Reader with this name"
        raise CorpusError(Problem(what, where, sources[0], "Correct the package"))
    return found


def _origin(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else "?"
    return f"{entry.value} of {package}"
