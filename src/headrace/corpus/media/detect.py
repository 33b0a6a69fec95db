"""Which format a file is in: by its first bytes, then by the ending of its name."""

from __future__ import annotations

from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.registry import all_readers, reader_of
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.unpacking import SUFFIXES
from headrace.shards import storage


def reader_for(url: str, settings: MediaSettings) -> Reader:
    """The reader of a file, or of the format that the settings name.

    Raises:
        CorpusError: if there is no reader of the format that is named.
        RefusalError: ``not supported`` if no reader is known for the file.
    """
    if settings.format != "auto":
        return reader_of(settings.format)
    head = SourceFile(url, "", settings, "auto").head(1024)
    return reader_for_bytes(head, storage.name_of(url))


def reader_for_bytes(head: bytes, name: str) -> Reader:
    """The reader of a file of this name that begins with these bytes, unpacked."""
    for reader in all_readers():
        if head.startswith(reader.magic) and reader.magic:
            return reader
    name = name.lower()
    for ending in SUFFIXES:
        name = name.removesuffix(ending)
    for reader in all_readers():
        if name.endswith(reader.suffixes) and reader.suffixes:
            return reader
    raise RefusalError("not supported", "neither its first bytes nor its name tell its format")
