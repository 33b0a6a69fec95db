"""ODT: paragraphs, lists and tables in the order of the document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.zip_members import ZipMembers, open_zip

_NAMES = "urn:oasis:names:tc:opendocument:xmlns"
_TEXT = f"{{{_NAMES}:text:1.0}}"
_TABLE = f"{{{_NAMES}:table:1.0}}"
_OFFICE = f"{{{_NAMES}:office:1.0}}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_LINES = (f"{_TEXT}p", f"{_TEXT}h")
_LEFT_OUT = (
    f"{_TEXT}tracked-changes",
    f"{_TEXT}note",
    f"{_TEXT}sequence-decls",
    f"{_OFFICE}annotation",
    f"{_OFFICE}forms",
)


class OdtReader(Reader):
    """The body of a text of LibreOffice and others, as the reader of DOCX has it."""

    name = "odt"
    suffixes = (".odt", ".ott")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        with file.open_seekable() as stream, open_zip(stream, file.settings.limits) as members:
            if b"encryption-data" in _optional(members, "META-INF/manifest.xml"):
                raise RefusalError("encrypted", "a document with a password")
            body = members.xml("content.xml").find(f"{_OFFICE}body/{_OFFICE}text")
            if body is None:
                raise RefusalError("unreadable", "no text in the document")
            facts = members.xml("meta.xml") if "meta.xml" in members.names else None
        yield Record(
            file.key,
            "\n".join(_blocks(body)),
            language=_fact(facts, "language"),
            title=_fact(facts, "title"),
            format=self.name,
        )


def _optional(members: ZipMembers, name: str) -> bytes:
    return members.read(name) if name in members.names else b""


def _fact(facts: Any, name: str) -> str | None:
    found = None if facts is None else facts.find(f".//{_DC}{name}")
    return None if found is None else (found.text or "").strip() or None


def _blocks(parent: Any) -> Iterator[str]:
    for child in parent:
        if child.tag in _LINES:
            yield from _paragraph(child)
        elif child.tag == f"{_TEXT}list-item":
            lines = list(_blocks(child))
            if lines:
                yield from (lines[0] if lines[0].startswith("- ") else f"- {lines[0]}", *lines[1:])
        elif child.tag == f"{_TABLE}table-row":
            cells = [" ".join(_blocks(cell)).replace("\n", " ") for cell in child]
            if any(cells):
                yield "\t".join(cells)
        elif child.tag not in _LEFT_OUT and isinstance(child.tag, str):
            yield from _blocks(child)


def _paragraph(paragraph: Any) -> Iterator[str]:
    """A paragraph, and the text boxes that are anchored in it behind it."""
    text: list[str] = [paragraph.text or ""]
    boxes: list[Any] = []
    waiting: list[Any] = list(reversed(paragraph))
    while waiting:
        element = waiting.pop()
        if isinstance(element, str):
            text.append(element)
            continue
        waiting.append(element.tail or "")
        if element.tag == f"{_TEXT}s":
            text.append(" " * min(int(element.get(f"{_TEXT}c") or 1), 100))
        elif element.tag == f"{_TEXT}tab":
            text.append("\t")
        elif element.tag == f"{_TEXT}line-break":
            text.append("\n")
        elif element.tag in _LINES or element.tag == f"{_TABLE}table":
            boxes.append(element)
        elif element.tag not in _LEFT_OUT and isinstance(element.tag, str):
            waiting.extend(reversed(element))
            waiting.append(element.text or "")
    line = "".join(text).strip()
    if line:
        yield line
    if boxes:
        yield from _blocks(boxes)
