"""DOCX: paragraphs, lists and tables in the order of the document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.optional import needed
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.zip_members import open_zip

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TEXT = (f"{_WORD}t", f"{_MATH}t")
_LITERAL = {
    f"{_WORD}tab": "\t",
    f"{_WORD}br": "\n",
    f"{_WORD}cr": "\n",
    f"{_WORD}noBreakHyphen": "-",
}
_BOX = f"{_WORD}txbxContent"
# Deleted text, text that was moved away, the second form of a drawing, and the stops of tabs.
_LEFT_OUT = (f"{_WORD}del", f"{_WORD}moveFrom", _FALLBACK, f"{_WORD}pPr", f"{_WORD}rPr")


class DocxReader(Reader):
    """The body of a document of Word, with changes accepted.

    A list item begins with a hyphen, a row of a table is a line with tabs between its cells.  Left
    out: headers, footers, notes, comments and deleted text.
    """

    name = "docx"
    suffixes = (".docx", ".docm")

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        docx = needed("docx", "python-docx", "reading DOCX")
        with file.open_seekable() as stream:
            with open_zip(stream, file.settings.limits) as members:
                members.read("word/document.xml")  # within the limits, and intact
            stream.seek(0)
            document = docx.Document(stream)
        lists = {
            style.style_id
            for style in document.styles
            if style.element.find(f".//{_WORD}numPr") is not None
        }
        facts = document.core_properties
        yield Record(
            file.key,
            "\n".join(_blocks(document.element.body, lists)),
            language=facts.language or None,
            title=facts.title or None,
            format=self.name,
        )


def _blocks(parent: Any, lists: set[str]) -> Iterator[str]:
    """Paragraphs and rows of tables below an element, each as a line or lines."""
    for child in parent:
        if child.tag == f"{_WORD}p":
            yield from _paragraph(child, lists)
        elif child.tag == f"{_WORD}tbl":
            yield from _rows(child, lists)
        elif child.tag not in _LEFT_OUT and isinstance(child.tag, str) and len(child):
            yield from _blocks(child, lists)  # content controls and marks of insertion


def _paragraph(paragraph: Any, lists: set[str]) -> Iterator[str]:
    """A paragraph, and the text boxes that are anchored in it behind it."""
    text: list[str] = []
    boxes: list[Any] = []
    waiting = list(reversed(paragraph))
    while waiting:
        element = waiting.pop()
        if element.tag in _TEXT:
            text.append(element.text or "")
        elif element.tag in _LITERAL:
            text.append(_LITERAL[element.tag])
        elif element.tag == _BOX:
            boxes.append(element)
        elif element.tag not in _LEFT_OUT and isinstance(element.tag, str):
            waiting.extend(reversed(element))
    line = "".join(text).strip()
    if line:
        yield f"- {line}" if _is_item(paragraph, lists) else line
    for box in boxes:
        yield from _blocks(box, lists)


def _is_item(paragraph: Any, lists: set[str]) -> bool:
    number = paragraph.find(f"{_WORD}pPr/{_WORD}numPr/{_WORD}numId")
    if number is not None:
        return bool(number.get(f"{_WORD}val") != "0")
    style = paragraph.find(f"{_WORD}pPr/{_WORD}pStyle")
    name = "" if style is None else style.get(f"{_WORD}val") or ""
    return name in lists and not name.lower().startswith("heading")


def _rows(table: Any, lists: set[str]) -> Iterator[str]:
    for row in table.iter(f"{_WORD}tr"):
        if next(row.iterancestors(f"{_WORD}tbl")) is not table:
            continue  # of a table in a cell, which is text of that cell
        cells = [" ".join(_blocks(cell, lists)).replace("\n", " ") for cell in _cells(row)]
        if any(cells):
            yield "\t".join(cells)


def _cells(row: Any) -> Iterator[Any]:
    for cell in row.iter(f"{_WORD}tc"):
        if next(cell.iterancestors(f"{_WORD}tr")) is row:
            yield cell
