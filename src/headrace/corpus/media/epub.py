"""EPUB: the chapters of a book in their order."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.encodings import decoded
from headrace.corpus.media.joined_text import JoinedText
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.web_page import declared_charset, plain_text
from headrace.corpus.media.zip_members import ZipMembers, open_zip

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XML_ENCRYPTION = "{http://www.w3.org/2001/04/xmlenc#}"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_EMPTY = re.compile(r"<(script|style|title|textarea|iframe|a|div|span|p)(\s[^<>]{0,1000})?/>")


class EpubReader(Reader):
    """A book is one document; ``chapters`` in the metadata are the offsets of its chapters.

    Offsets are characters of the text.  Books whose text is encrypted are refused; those with
    encrypted fonts are not.
    """

    name = "epub"
    suffixes = (".epub",)

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        most = file.settings.limits.document_bytes
        with file.open_seekable() as stream, open_zip(stream, file.settings.limits) as members:
            path = _package_path(members)
            package = members.xml(path)
            encrypted = _encrypted(members)
            text = JoinedText(most)
            for href in _spine(package):
                name = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(href)))
                if name in encrypted:
                    raise RefusalError("encrypted", "a book with digital rights management")
                data = members.read(name)
                markup, _ = decoded(data, declared_charset(data))
                text.add(plain_text(_opened(markup)))
        yield Record(
            file.key,
            str(text),
            language=_fact(package, "language"),
            title=_fact(package, "title"),
            licence=_fact(package, "rights"),
            format=self.name,
            metadata={"chapters": text.offsets},
        )


def _opened(markup: str) -> str:
    """XHTML as HTML: ``<script/>`` and the like would stay open in HTML to the end of the page."""
    return _EMPTY.sub(r"<\1\2></\1>", markup)


def _package_path(members: ZipMembers) -> str:
    root = members.xml("META-INF/container.xml").find(f".//{_CONTAINER}rootfile")
    path = None if root is None else root.get("full-path")
    if not path:
        raise RefusalError("unreadable", "the container names no package")
    return str(path)


def _spine(package: Any) -> Iterator[str]:
    """Paths of the chapters, without the table of contents."""
    items = {item.get("id"): item for item in package.iterfind(f"{_OPF}manifest/{_OPF}item")}
    for reference in package.iterfind(f"{_OPF}spine/{_OPF}itemref"):
        item = items.get(reference.get("idref"))
        if (
            item is not None
            and item.get("href")
            and item.get("media-type") in _PAGES
            and "nav" not in (item.get("properties") or "").split()
        ):
            yield item.get("href")


def _encrypted(members: ZipMembers) -> set[str]:
    name = "META-INF/encryption.xml"
    if name not in members.names:
        return set()
    references = members.xml(name).iter(f"{_XML_ENCRYPTION}CipherReference")
    return {unquote(reference.get("URI") or "") for reference in references}


def _fact(package: Any, name: str) -> str | None:
    found = package.find(f"{_OPF}metadata/{_DC}{name}")
    return None if found is None else " ".join("".join(found.itertext()).split()) or None
