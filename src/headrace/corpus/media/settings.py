"""The section of a recipe that says how the files of a source are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from headrace.config.section import Section
from headrace.corpus.media.encodings import codec_of

Column = str | int
"""A name (of JSON lines a path too: ``meta.url``), or a number from 1 in files without a header."""


class Fields(Section):
    """Where the parts of a record are, in formats that hold a table or objects.

    The defaults are used where a file has such columns; a column that a recipe names must be
    there.
    """

    text: Column = "text"
    """The document itself.  In the format ``lines``, its default is the whole line."""
    id: Column | None = "id"
    """Names the record in its file; without it, its place in the file does."""
    url: Column | None = "url"
    """Where the document came from."""
    language: Column | None = "language"
    """BCP-47 tag."""
    licence: Column | None = "license"
    """SPDX expression, name or URL."""
    title: Column | None = "title"
    """Title."""
    collected_at: Column | None = "collected_at"
    """ISO 8601 date or time."""
    metadata: tuple[Column, ...] = ()
    """Columns that are kept with the document as they are.  Private information is looked for in
    texts alone, so name none that may hold any."""


class HtmlSettings(Section):
    """How the text of a web page is told from what surrounds it."""

    mode: Literal["full", "fast"] = "full"
    """``full`` is trafilatura, ``fast`` resiliparse: about eight times as fast, less exact."""
    favour: Literal["balance", "precision", "recall"] = "balance"
    """What trafilatura leans to in doubt."""
    tables: bool = True
    """Whether the text of tables is kept."""
    comments: bool = False
    """Whether readers' comments below an article are kept."""


class OcrSettings(Section):
    """How pages without a text layer and images are read, by tesseract."""

    languages: tuple[str, ...] = Field(("eng",), min_length=1)
    """Tesseract's names of languages or scripts: ``eng``, ``ara``, ``script/Devanagari``."""
    dpi: int = Field(300, ge=72, le=1200)
    """Dots per inch at which a page of a PDF is drawn."""
    page_seconds: float = Field(60.0, gt=0)
    """After this time a page is given up, and its document with it."""

    @field_validator("languages")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.replace("_", "").replace("/", "").isalnum():
                raise ValueError(f"{name!r} is no name of a language of tesseract")
        return names


class Limits(Section):
    """What one document may need; more of it is refused as ``too large``."""

    document_bytes: int = Field(32 << 20, ge=1)
    """Bytes, unpacked, of what is read as one text: a line, a page, a message, a chapter; and of
    the text that comes of it, in UTF-8."""
    file_bytes: int = Field(1 << 30, ge=1)
    """Bytes of a PDF, an image or a container such as DOCX or EPUB, and of what is in it."""
    ratio: float = Field(100.0, gt=1)
    """How many times as large packed data may become; looked at from 16 MiB on."""
    pages: int = Field(20_000, ge=1)
    """Pages of a PDF."""
    pixels: int = Field(200_000_000, ge=1)
    """Pixels of an image."""


class MediaSettings(Section):
    """How the files of a source are read."""

    format: str = "auto"
    """Name of a reader, or ``auto``: by the first bytes of a file, then by the ending of its
    name."""
    encoding: str | None = None
    """Of texts, where it is known; found out for each file otherwise."""
    fields: Fields = Fields()
    """Columns of tables and objects."""
    html: HtmlSettings = HtmlSettings()
    """Web pages."""
    ocr: OcrSettings | None = None
    """Images and scanned pages; they are refused where this is not given."""
    limits: Limits = Limits()
    """What a document may need."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and codec_of(name) is None:
            raise ValueError(f"{name!r} is no encoding of text that is known")
        return name
