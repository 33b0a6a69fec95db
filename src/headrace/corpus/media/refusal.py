"""How a reader says that a record cannot be used, wherever it finds out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from headrace.corpus.documents import Record, Reject, RejectReason


@dataclass
class RefusalError(Exception):
    """A record cannot be used; :func:`record_or_reject` makes a :class:`Reject` of it."""

    reason: RejectReason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def is_of_data(error: BaseException) -> bool:
    """Whether an exception says something of the data: not that the process is to end.

    What libraries in Rust raise where they panic is no ``Exception``.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def reject_of(error: BaseException, key: str, offset: int | None = None) -> Reject:
    """The Reject for what was raised while a record was read; texts of exceptions are left out.

    The message of an exception of a library may quote the document; its type does not.
    """
    if isinstance(error, RefusalError):
        return Reject(key, error.reason, error.detail, offset)
    if isinstance(error, MemoryError):
        return Reject(key, "memory limit", "more memory needed than there is", offset)
    if isinstance(error, RecursionError):
        return Reject(key, "unreadable", "nested too deeply", offset)
    return Reject(key, "unreadable", type(error).__name__, offset)


def record_or_reject(
    make: Callable[[], Record], key: str, offset: int | None = None
) -> Record | Reject:
    """What ``make`` returns, or the Reject that says why it cannot be made."""
    try:
        return make()
    except BaseException as error:  # whatever a library raises: one record must not end a build
        if not is_of_data(error):
            raise
        return reject_of(error, key, offset)


def checked(record: Record, most_bytes: int) -> Record:
    """The record itself; :class:`RefusalError` if it has no text, or one that is none.

    ``most_bytes`` is what its text may have in UTF-8.
    """
    try:
        size = len(record.text.encode())
        for text in _other_texts(record):
            text.encode()
    except UnicodeEncodeError:
        raise RefusalError("encoding", "half of a surrogate pair in the text") from None
    if size > most_bytes:
        raise RefusalError("too large", f"{size} bytes of text, more than {most_bytes}")
    if "\0" in record.text:
        raise RefusalError("encoding", "a NUL character in the text")
    if not record.text.strip():
        raise RefusalError("empty", "no text")
    return record


def _other_texts(record: Record) -> Iterator[str]:
    for member in fields(record):
        value = getattr(record, member.name)
        if isinstance(value, str) and member.name != "text":
            yield value
