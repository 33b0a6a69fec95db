"""The members of a zip file, within the limits: zip bombs are refused before they are unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from headrace.corpus.media.optional import needed
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import Limits
from headrace.corpus.media.unpacking import LOOKED_AT_FROM

_ENCRYPTED = 0x1
_MOST_MEMBERS = 100_000


class ZipMembers:
    """A zip file whose directory is within the limits.

    Sizes are those of the directory; more than these is never unpacked.
    """

    def __init__(self, archive: zipfile.ZipFile, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise RefusalError("too large", f"{len(members)} members")
        total = sum(member.file_size for member in members)
        if total > limits.file_bytes:
            raise RefusalError("too large", f"{total} bytes unpacked")
        for member in members:
            if member.flag_bits & _ENCRYPTED:
                raise RefusalError("encrypted", "a zip file with a password")
            if (
                member.file_size > LOOKED_AT_FROM
                and member.file_size > limits.ratio * member.compress_size
            ):
                detail = f"a member becomes more than {limits.ratio:g} times as large"
                raise RefusalError("too large", detail)

    @property
    def names(self) -> list[str]:
        """Names of the members, in their order."""
        return self._archive.namelist()

    def read(self, name: str) -> bytes:
        """A member; :class:`RefusalError` if it is missing, too large or damaged."""
        most = self._limits.document_bytes
        try:
            size = self._archive.getinfo(name).file_size
        except KeyError:
            raise RefusalError("unreadable", "a part of it is missing") from None
        if size > most:
            raise RefusalError("too large", f"a member of {size} bytes, more than {most}")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError) as error:
            raise RefusalError("unreadable", f"a damaged member: {type(error).__name__}") from None

    def xml(self, name: str) -> Any:
        """The root element of a member of XML, without entities or anything from outside."""
        return xml_root(self.read(name))


@contextmanager
def open_zip(file: IO[bytes], limits: Limits) -> Iterator[ZipMembers]:
    """The members of a zip file; :class:`RefusalError` if it is none or too large."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OSError):
        raise RefusalError("unreadable", "a damaged or truncated zip file") from None
    with archive:
        yield ZipMembers(archive, limits)


def xml_root(data: bytes) -> Any:
    """The root of an XML document; entities stay as they are, nothing is fetched.

    Raises :class:`RefusalError` if it is not well-formed; elements may be 256 deep.
    """
    etree = needed("lxml.etree", "lxml", "reading office files and EPUB")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        raise RefusalError("unreadable", "not well-formed XML") from None
