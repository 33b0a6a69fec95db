"""Walks the headers of a plain tar (V7, ustar, GNU, PAX) without touching the contents.

:mod:`tarfile` does the same for trusted archives; here no number in a header is believed before
it has been compared with the bytes that are there, and a header that is damaged is an error
instead of the end.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

from headrace.errors import Problem, ShardError
from headrace.shards.index import TAR_BLOCK

FETCH_OR_BUILD = "Copy the shard again from where it came, or build it again"
_PLAIN = (b"0", b"\0", b"7")
_FOLDER = b"5"
_KINDS = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"6": "fifo",
    b"S": "sparse file",
}
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX, _OLD_PAX, _GLOBAL_PAX = b"x", b"X", b"g"
_LONGEST_EXTENSION = 1 << 20
"""Bytes of a long name or of PAX records; real ones take hundreds."""
_POSIX_MAGIC = b"ustar\0"
_WRITE_AGAIN = "Write the tar again from plain files: tar --dereference --hard-dereference"


class TarMember(NamedTuple):
    """One file or folder of a tar."""

    name: str
    is_folder: bool
    offset: int
    """Byte at which its first header starts."""
    data_offset: int
    """Byte at which its content starts."""
    size: int
    """Bytes of content."""
    end: int
    """Byte behind its last block."""


def read_members(data: bytes | memoryview | mmap.mmap, shard: str) -> Iterator[TarMember]:
    """The files and folders of a tar in their order, up to its end mark or its last byte.

    Raises :class:`ShardError` with shard and offset for everything else: a damaged or cut header,
    links, devices, fifos, sparse files, names that leave the folder (absolute or with ``..``) or
    are not UTF-8, sizes that are negative, no numbers, or larger than what is left of the tar.
    """
    position, size = 0, len(data)
    start = position
    name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    while position < size:
        header = bytes(data[position : position + TAR_BLOCK])
        if len(header) < TAR_BLOCK:
            raise tar_error("the tar is truncated in a header", shard, position)
        if not any(header):
            if position != start:
                raise tar_error("a long name or PAX header stands before nothing", shard, start)
            return
        _check_sum(header, shard, position)
        kind = header[156:157]
        content = position + TAR_BLOCK
        length = _number(header[124:136], shard, position)
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _OLD_PAX, _GLOBAL_PAX):
            if length > _LONGEST_EXTENSION:
                raise tar_error(
                    "a header claims too many bytes for a name", shard, position, f"{length}"
                )
            if content + length > size:
                raise _too_long(shard, position, "a name or PAX header", length, size - content)
            value = bytes(data[content : content + length])
            position = content + length + -length % TAR_BLOCK
            if kind == _LONG_NAME:
                name = value.partition(b"\0")[0]
            elif kind in (_PAX, _OLD_PAX):
                pax = {**pax, **_records(value, shard, start)}
            elif kind == _GLOBAL_PAX:
                _check_global(_records(value, shard, start), shard, start)
                start = position
            continue
        text = _name(header, name, pax, shard, start)
        is_folder = kind == _FOLDER or (kind == b"\0" and text.endswith("/"))
        if not is_folder:
            if kind not in _PLAIN or any(key.startswith(b"GNU.sparse.") for key in pax):
                kind_name = _KINDS.get(kind, "sparse file" if kind in _PLAIN else ascii(kind))
                raise tar_error(
                    "a member is not a plain file (link, device or sparse file)",
                    shard,
                    start,
                    f"{text}: {kind_name}",
                    _WRITE_AGAIN,
                )
            if b"size" in pax:
                length = _decimal(pax[b"size"], shard, start)
            if content + length > size:
                raise _too_long(shard, start, text, length, size - content)
        # What a folder has as its size is not the length of a content.
        length = 0 if is_folder else length
        end = content + length + -length % TAR_BLOCK
        if end > size:
            raise tar_error("the tar is truncated in the content of a member", shard, size, text)
        yield TarMember(text, is_folder, start, content, length, end)
        position = start = end
        name, pax = None, {}
    if position != start:
        raise tar_error("the tar is truncated behind a long name or PAX header", shard, size)


def tar_error(
    what: str,
    shard: str,
    offset: int,
    value: str | None = None,
    remedy: str = FETCH_OR_BUILD,
) -> ShardError:
    """What is wrong at a byte of a tar."""
    return ShardError(Problem(what, f"shard {shard} offset {offset}", value, remedy))


def _check_sum(header: bytes, shard: str, position: int) -> None:
    stored = header[148:156]
    found = sum(header) - sum(stored) + 8 * ord(" ")
    digits = stored.strip(b"\0 ")
    if digits and not digits.strip(b"01234567"):
        claimed = int(digits, 8)
        if claimed == found:
            return
        # Some old writers added up signed bytes.
        if claimed == found - 256 * sum(byte > 127 for byte in header[:148] + header[156:]):
            return
    if position == 0:
        raise tar_error(
            "the tar is truncated or damaged: it does not begin with a header", shard, 0
        )
    raise tar_error("a member header is damaged", shard, position)


def _number(field: bytes, shard: str, position: int) -> int:
    """A size in octal digits, or in base 256 where the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) - (0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            raise tar_error(
                "a member has a negative size",
                shard,
                position,
                str(int.from_bytes(field, "big", signed=True)),
            )
        return value
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise tar_error("the size of a member is not a number", shard, position, ascii(digits))
    return int(digits or b"0", 8)


def _decimal(digits: bytes, shard: str, position: int) -> int:
    if not digits.isdigit() or len(digits) > 30:
        negative = digits[:1] == b"-"
        what = (
            "a member has a negative size" if negative else "the size of a member is not a number"
        )
        raise tar_error(what, shard, position, ascii(digits[:40]))
    return int(digits)


def _records(value: bytes, shard: str, start: int) -> dict[bytes, bytes]:
    """PAX records: ``LENGTH KEY=VALUE`` and a line feed each."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(value) and value[position]:
        digits = value[position : position + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = value[position : position + length]
        key, equals, content = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or not key or record[-1:] != b"\n" or len(record) != length:
            raise tar_error("a PAX header is damaged", shard, start, ascii(value[position:][:40]))
        records[key] = content
        position += length
    return records


def _check_global(records: dict[bytes, bytes], shard: str, start: int) -> None:
    """A comment for the whole archive is passed over; a name or size for all members is odd."""
    odd = [key.decode("ascii", "replace") for key in (b"path", b"size") if key in records]
    if odd:
        raise tar_error(
            "a global PAX header sets what each member has for itself", shard, start, ", ".join(odd)
        )


def _name(
    header: bytes, long: bytes | None, pax: dict[bytes, bytes], shard: str, start: int
) -> str:
    raw = header[:100].partition(b"\0")[0]
    if header[257:263] == _POSIX_MAGIC:
        prefix = header[345:500].partition(b"\0")[0]
        raw = prefix + b"/" + raw if prefix else raw
    raw = pax.get(b"path", raw if long is None else long)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise tar_error(
            "a member's name is not UTF-8", shard, start, ascii(raw), "Rename it"
        ) from error
    if text.startswith("/") or ".." in text.split("/"):
        raise tar_error(
            "a member's name leads out of the folder",
            shard,
            start,
            text,
            "Write the tar again from within the folder, with names below it",
        )
    return text


def _too_long(shard: str, start: int, text: str, length: int, left: int) -> ShardError:
    return tar_error(
        "the tar is truncated, or the size of a member is wrong",
        shard,
        start,
        f"{text} claims {length} bytes, {max(left, 0)} are left",
    )
