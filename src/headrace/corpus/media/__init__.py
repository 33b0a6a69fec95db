"""Documents out of files of many formats: text, tables, web pages, office files, PDF, e-mail.

Needs the extra ``corpus``.  docs/documents.md says what is read how, and how well.
"""

from headrace.corpus.media.read import check, parts, read_records
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.registry import formats
from headrace.corpus.media.settings import Fields, HtmlSettings, Limits, MediaSettings, OcrSettings
from headrace.corpus.media.source_file import SourceFile

__all__ = [
    "Fields",
    "HtmlSettings",
    "Limits",
    "MediaSettings",
    "OcrSettings",
    "Reader",
    "RefusalError",
    "SourceFile",
    "check",
    "formats",
    "parts",
    "read_records",
]
