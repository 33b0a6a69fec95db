"""What every reader of a format is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.source_file import SourceFile


class Reader(ABC):
    """Reads the files of one format.

    A reader has no state: one instance reads any number of files.  What is wrong with a record is
    a :class:`Reject` in its place; what is wrong with the whole file may also be raised, as
    :class:`headrace.corpus.media.refusal.RefusalError` or as whatever a library raises.
    """

    name: ClassVar[str]
    """The ``format`` of recipes and of records."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of file names, in lower case, with the dot."""
    magic: ClassVar[tuple[bytes, ...]] = ()
    """First bytes of such files."""
    single: ClassVar[bool] = True
    """Whether a file is one document."""
    filler: ClassVar[str | None] = None
    """A character that may stand in the place of every other one of a record, but of its line ends,
    so that the reader passes over it: so a record is blanked when it has to go.  None: no record of
    the format can be blanked so.  Records need their ``offset``, ``length`` and ``encoding``."""

    @abstractmethod
    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """What is in the file, or in the range of it, in its order."""

    def parts(self, file: SourceFile, size: int) -> list[tuple[int, int | None]]:
        """Ranges of bytes of ``size`` or so whose records can be read on their own, in order.

        Every record belongs to exactly one of them.  By default it is the whole file.
        """
        return [(0, None)]
