"""Records out of a file of any format: what is wrong with one is a Reject, not an exception."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.detect import reader_for
from headrace.corpus.media.ocr import check_tesseract
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import (
    RefusalError,
    checked,
    is_of_data,
    record_or_reject,
    reject_of,
)
from headrace.corpus.media.registry import reader_of
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.media.source_file import SourceFile
from headrace.errors import ShardError, StorageError, UserError
from headrace.shards import storage

DEFAULT_SETTINGS = MediaSettings()


def check(settings: MediaSettings) -> None:
    """Make sure, before any file is read, that the settings can be followed here.

    Raises:
        CorpusError: if there is no reader of the format, or tesseract lacks a language.
        MissingExtraError: if the extra ``ocr`` is needed and not installed.
    """
    if settings.format != "auto":
        reader_of(settings.format)
    if settings.ocr is not None:
        check_tesseract(settings.ocr)


def read_records(
    url: str,
    settings: MediaSettings = DEFAULT_SETTINGS,
    *,
    key: str | None = None,
    start: int = 0,
    end: int | None = None,
) -> Iterator[Record | Reject]:
    """The records of a file, or of one of its :func:`parts`, in their order.

    Whatever a file holds ends as records and Rejects.  A file that is not there, or in a format
    that is not known, is one Reject.

    Args:
        url: A path, or any URL that fsspec knows.
        settings: Format, columns, limits.
        key: Key of the file, which its records' keys begin with: its path below the folder of its
            source.  By default its name.
        start: First byte of the range; records that begin in it are read.
        end: Behind its last byte; None: the end of the file.

    Raises:
        CorpusError: if there is no reader of the format that the settings name, or tesseract lacks
            a language.
        MissingExtraError: if a package that the format needs is not installed.
        StorageError: if a store does not answer, which says nothing of the file.
    """
    if key is None:
        key = storage.name_of(url)
    check(settings)
    try:
        before = _stamp(url)
        if before[0] == 0:
            raise RefusalError("empty", "a file of no bytes")
        reader = reader_for(url, settings)
        file = SourceFile(url, key, settings, reader.name, start, end)
        yield from _unchanged(reader, file, before)
    except StorageError:
        raise
    except ShardError as error:
        yield Reject(key, "unreadable", error.problems[0].what)
    except UserError:
        raise
    except BaseException as error:  # whatever a library raises: one file must not end a build
        if not is_of_data(error):
            raise
        yield reject_of(error, key)


def parts(
    url: str, settings: MediaSettings = DEFAULT_SETTINGS, *, size: int = 64 << 20
) -> list[tuple[int, int | None]]:
    """Ranges of a file that :func:`read_records` can be given, of ``size`` bytes or so each.

    Formats whose records are lines are cut anywhere, Parquet between row groups; all others, and
    packed files, are one part.  What cannot be read is one part too, whose reading says why.
    Raises as :func:`read_records` does.
    """
    check(settings)
    try:
        reader = reader_for(url, settings)
        return reader.parts(SourceFile(url, "", settings, reader.name), size)
    except StorageError:
        raise
    except ShardError:
        return [(0, None)]
    except UserError:
        raise
    except Exception:  # reading the one part finds it again, and says so
        return [(0, None)]


def _unchanged(
    reader: Reader, file: SourceFile, before: tuple[int, int]
) -> Iterator[Record | Reject]:
    """What the reader yields, checked, and a Reject if the file is not what it was before.

    It takes the place of the record of a file that is one document, and follows those of others.
    """
    most = file.settings.limits.document_bytes
    changed = Reject(file.key, "changed while read", "size or time of the file", file.start)
    for item in reader.read(file):
        if isinstance(item, Record):
            item = record_or_reject(partial(checked, item, most), item.key, item.offset)
        if reader.single and _stamp(file.url) != before:
            yield changed
            return
        yield item
    if not reader.single and _stamp(file.url) != before:
        yield changed


def _stamp(url: str) -> tuple[int, int]:
    """Size and time of change of a file; stores do not tell the latter alike: 0 there."""
    if storage.is_local(url) and storage.exists(url):
        facts = storage.local_path(url).stat()
        return facts.st_size, facts.st_mtime_ns
    return storage.size_of(url), 0
