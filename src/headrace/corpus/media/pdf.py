"""PDF: the text layer, page by page; pages without one are read as images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.joined_text import JoinedText
from headrace.corpus.media.ocr import SWITCHED_OFF, refuse_pixels, text_of_image
from headrace.corpus.media.optional import needed
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.source_file import SourceFile

_POINTS = 72
"""Units of a page's size in an inch."""
_ALEF_LAM = re.compile("[اأإآ]ل")


class PdfReader(Reader):
    """A file is a document; ``pages`` in the metadata are the offsets of its pages in the text."""

    name = "pdf"
    suffixes = (".pdf",)
    magic = (b"%PDF-",)

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        with file.open_seekable() as stream:
            yield pdf_record(stream, file.key, file.settings)


def pdf_record(stream: IO[bytes], key: str, settings: MediaSettings) -> Record:
    """The record of a PDF in a seekable stream.

    Raises :class:`RefusalError` for one with a password, one that is damaged, and one of images
    if those are not read.
    """
    pdfium = needed("pypdfium2", "pypdfium2", "reading PDF")
    try:
        document = pdfium.PdfDocument(stream)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise RefusalError("encrypted", "a PDF with a password") from None
        raise RefusalError("unreadable", "a damaged or truncated PDF") from None
    text = JoinedText(settings.limits.document_bytes)
    without_layer = read_as_images = 0
    try:
        if len(document) > settings.limits.pages:
            raise RefusalError("too large", f"{len(document)} pages")
        for number in range(len(document)):
            page = document[number]
            layer = _layer(page)
            if not layer.strip() and _has_content(page):
                without_layer += 1
                if settings.ocr is not None:
                    layer = _read_as_image(page, settings)
                    read_as_images += 1
            text.add(layer)
            page.close()
        facts = document.get_metadata_dict(skip_empty=True)
    finally:
        document.close()
    if not text.offsets and without_layer and settings.ocr is None:
        raise RefusalError("not supported", SWITCHED_OFF)
    metadata: dict[str, Any] = {"pages": text.offsets}
    if read_as_images:
        metadata["ocr_pages"] = read_as_images
    elif without_layer:
        metadata["pages_without_text"] = without_layer
    title = " ".join(facts.get("Title", "").replace("\0", "").split())
    return Record(key, str(text), title=title or None, format=PdfReader.name, metadata=metadata)


def _layer(page: Any) -> str:
    """The text layer of a page, in the order of its reading; hyphens at ends of lines are gone.

    pdfium writes U+FFFE for a hyphen that it takes for one of a line's end.
    """
    layer = page.get_textpage()
    text = _ligatures_in_order(layer, layer.get_text_range())
    layer.close()
    text = text.replace("\r\n", "\n").replace("\ufffe\n", "").replace("\ufffe", "")
    return text.replace("\0", "")


def _ligatures_in_order(layer: Any, text: str) -> str:
    """The text with lam before alef where one glyph shows both.

    pdfium turns the letters of right-to-left lines around one by one, also the two that it makes
    of the ligature.  Letters of one glyph have one box, which those of the article do not.
    """
    from pypdfium2.raw import FPDFText_GetUnicode

    letters = list(text)
    for found in _ALEF_LAM.finditer(text):
        i = found.start()
        in_step = all(FPDFText_GetUnicode(layer, n) == ord(text[n]) for n in (i, i + 1))
        if in_step and layer.get_charbox(i) == layer.get_charbox(i + 1):
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def _has_content(page: Any) -> bool:
    return next(iter(page.get_objects(max_depth=1)), None) is not None


def _read_as_image(page: Any, settings: MediaSettings) -> str:
    assert settings.ocr is not None
    scale = settings.ocr.dpi / _POINTS
    width, height = page.get_size()
    refuse_pixels(width * scale, height * scale, settings.limits.pixels)
    return text_of_image(page.render(scale=scale).to_pil(), settings.ocr)
