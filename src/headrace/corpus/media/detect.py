"""Which format a file is in: by its first bytes, then by the ending of its name."""

from __future__ import annotations

import re

from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.registry import all_readers, reader_of
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.unpacking import SUFFIXES
from headrace.corpus.media.zip_members import ZipMembers, open_zip
from headrace.shards import storage

_HEAD_BYTES = 1024
_ZIP = b"PK\x03\x04"
_NOT_SUPPORTED = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a file of Office before 2007, or one with a password",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xfd7zXZ\0": "packed by xz",
}
_MEDIA_TYPES = {
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.text-template": "odt",
}
_OF_OFFICE = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "a presentation (PPTX)",
    "xl/workbook.xml": "a workbook (XLSX)",
}
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)\b", re.IGNORECASE)


def reader_for(url: str, settings: MediaSettings) -> Reader:
    """The reader of a file, or of the format that the settings name.

    Raises:
        CorpusError: if there is no reader of the format that is named.
        RefusalError: ``not supported`` if no reader is known for the file.
    """
    if settings.format != "auto":
        return reader_of(settings.format)
    file = SourceFile(url, "", settings, "auto")
    head = file.head(_HEAD_BYTES)
    if head.startswith(_ZIP):
        with file.open_seekable() as stream, open_zip(stream, settings.limits) as members:
            return reader_of(_format_of_zip(members))
    return reader_for_bytes(head, storage.name_of(url))


def reader_for_bytes(head: bytes, name: str) -> Reader:
    """The reader of a file of this name that begins with these bytes, unpacked."""
    for magic, what in _NOT_SUPPORTED.items():
        if head.startswith(magic):
            raise RefusalError("not supported", what)
    for reader in all_readers():
        if head.startswith(reader.magic):
            return reader
    name = name.lower()
    for ending in SUFFIXES:
        name = name.removesuffix(ending)
    for reader in all_readers():
        if name.endswith(reader.suffixes):
            return reader
    if _HTML.match(head):
        return reader_of("html")
    raise RefusalError("not supported", "neither its first bytes nor its name tell its format")


def _format_of_zip(members: ZipMembers) -> str:
    """The format of a zip file, by what is in it."""
    names = set(members.names)
    if "mimetype" in names:
        kind = members.read("mimetype").strip().decode("ascii", "replace")
        if kind in _MEDIA_TYPES:
            return _MEDIA_TYPES[kind]
        raise RefusalError("not supported", f"a document of the type {kind[:80]!r}")
    for member, what in _OF_OFFICE.items():
        if member in names:
            if what == "docx":
                return what
            raise RefusalError("not supported", what)
    if "META-INF/container.xml" in names:
        return "epub"
    raise RefusalError("not supported", "a zip file")
