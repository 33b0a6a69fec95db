"""Images as text, by the program tesseract (extra ``ocr``)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.joined_text import JoinedText
from headrace.corpus.media.optional import needed
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import OcrSettings
from headrace.corpus.media.source_file import SourceFile
from headrace.errors import CorpusError, Problem

SWITCHED_OFF = "no text layer, and reading images (ocr) is not switched on"
_PURPOSE = "reading images"


class ImageReader(Reader):
    """A scanned page, or several in a TIFF file; ``pages`` are their offsets in the text."""

    name = "image"
    suffixes = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
    magic = (b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\xff\xd8\xff")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        ocr, limits = file.settings.ocr, file.settings.limits
        if ocr is None:
            raise RefusalError("not supported", SWITCHED_OFF)
        image_module = needed("PIL.Image", "pillow", _PURPOSE, "ocr")
        sequence = needed("PIL.ImageSequence", "pillow", _PURPOSE, "ocr")
        text = JoinedText(limits.document_bytes)
        with file.open_seekable() as stream, warnings.catch_warnings():
            # The limit on pixels is that of the recipe.
            warnings.simplefilter("ignore", image_module.DecompressionBombWarning)
            try:
                image = image_module.open(stream)
                for number, page in enumerate(sequence.Iterator(image)):
                    if number >= limits.pages:
                        raise RefusalError("too large", f"more than {limits.pages} pages")
                    refuse_pixels(page.width, page.height, limits.pixels)
                    text.add(text_of_image(page.convert("RGB"), ocr))
            except image_module.DecompressionBombError:
                raise RefusalError("too large", "too many pixels") from None
        yield Record(
            file.key, str(text), format=self.name, metadata={"pages": text.offsets, "ocr": True}
        )


def refuse_pixels(width: float, height: float, most: int) -> None:
    """Raise :class:`RefusalError` if an image has more than ``most`` pixels."""
    if width * height > most:
        raise RefusalError("too large", f"more than {most} pixels")


def text_of_image(image: Any, settings: OcrSettings) -> str:
    """The text of a ``PIL.Image``; :class:`RefusalError` if it takes too long."""
    tesseract = needed("pytesseract", "pytesseract", _PURPOSE, "ocr")
    try:
        text: str = tesseract.image_to_string(
            image, lang="+".join(settings.languages), timeout=settings.page_seconds
        )
    except RuntimeError as error:
        if isinstance(error, tesseract.TesseractError):
            raise RefusalError("unreadable", "tesseract failed") from None
        raise RefusalError("time limit", f"a page of {settings.page_seconds:g} seconds") from None
    return text.replace("\f", "\n")


@cache
def check_tesseract(settings: OcrSettings) -> None:
    """Make sure that tesseract and its data for the languages are installed.

    Raises:
        MissingExtraError: without the package pytesseract or pillow.
        CorpusError: without the program or the data.
    """
    tesseract = needed("pytesseract", "pytesseract", _PURPOSE, "ocr")
    needed("PIL.Image", "pillow", _PURPOSE, "ocr")
    try:
        there = tesseract.get_languages()
    except tesseract.TesseractNotFoundError:
        remedy = "Install it; on Debian and Ubuntu: apt-get install tesseract-ocr"
        raise CorpusError(
            Problem("the program tesseract is not installed", "environment", None, remedy)
        ) from None
    missing = [name for name in settings.languages if name not in there]
    if missing:
        remedy = "Install its data; on Debian and Ubuntu: apt-get install tesseract-ocr-LANGUAGE"
        raise CorpusError(
            Problem("tesseract lacks a language", "ocr.languages", ", ".join(missing), remedy)
        )
