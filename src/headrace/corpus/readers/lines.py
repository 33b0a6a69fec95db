"""A file as numbered lines of text: gzip, UTF-8, byte order mark and line ends."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, cast

from headrace.corpus.readers.findings import (
    REPAIRED_BYTE_ORDER_MARK,
    REPAIRED_LINE_END,
    Findings,
)
from headrace.counts import counted
from headrace.errors import CorpusError, ShardError
from headrace.shards import storage
from headrace.shards.filesystems import NO_SUCH_FILE

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LINE_END_REMEDY = "Convert it with dos2unix, or give --repair"
_ENCODING_REMEDY = "Convert it: iconv -f ENCODING -t UTF-8 FILE"


@contextmanager
def open_text(url: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if they are gzip; :class:`CorpusError` if it is not there."""
    try:
        with storage.open_for_reading(url) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
    except ShardError as error:
        raise CorpusError(
            [
                replace(problem, remedy="Check the path of the input")
                if problem.what == NO_SUCH_FILE
                else problem
                for problem in error.problems
            ]
        ) from error


def numbered_lines(
    url: str, findings: Findings, *, spreadsheet: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, text without line end)``.

    Windows line ends and a byte order mark are problems, but not in what a ``spreadsheet`` saves:
    RFC 4180 prescribes the former, and some programs write the latter.

    Only a line feed ends a line: tokens may hold what Unicode calls line separators.  Problems go
    to ``findings`` and the line is yielded as well as it can be read, so that the lines behind it
    are checked too.
    """
    number = 0
    windows: list[int] = []
    with open_text(url) as stream:
        try:
            for number, raw in enumerate(stream, 1):
                line = raw[:-1] if raw.endswith(b"\n") else raw
                if number == 1:
                    if line.startswith(_UTF_16):
                        findings.add(1, "the file is UTF-16, not UTF-8", None, _ENCODING_REMEDY)
                        return
                    line = _without_mark(line, None if spreadsheet else findings)
                if line.endswith(b"\r"):
                    if not spreadsheet:
                        windows.append(number)
                    line = line[:-1]
                yield number, _decoded(line, number, findings)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            findings.add(
                number + 1, "the gzip file is truncated or damaged", str(error), "Copy it again"
            )
    if windows and findings.repair:
        findings.repairs[REPAIRED_LINE_END] += len(windows)
    elif windows:
        what = f"Windows line ends, from here on in {counted(len(windows), 'line')}"
        findings.add(windows[0], what, "\\r\\n", _LINE_END_REMEDY)


def _without_mark(line: bytes, findings: Findings | None) -> bytes:
    """The line without a byte order mark, which is a finding or a repair; None: neither."""
    if not line.startswith(_BYTE_ORDER_MARK):
        return line
    if findings is None:
        return line[len(_BYTE_ORDER_MARK) :]
    if findings.repair:
        findings.repairs[REPAIRED_BYTE_ORDER_MARK] += 1
    else:
        remedy = "Save it as UTF-8 without BOM, or give --repair"
        findings.add(1, "the file starts with a byte order mark", "EF BB BF", remedy)
    return line[len(_BYTE_ORDER_MARK) :]


def _decoded(line: bytes, number: int, findings: Findings) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        value = f"byte {line[error.start]:#04x} at column {error.start + 1}"
        findings.add(number, "not UTF-8", value, _ENCODING_REMEDY)
        return line.decode("utf-8", "replace")
    if "\0" in text:
        findings.add(number, "a NUL character in the line", None, "Check the file: is it text?")
    elif "\r" in text:
        findings.add(number, "a carriage return inside the line", "\\r", _LINE_END_REMEDY)
    return text
