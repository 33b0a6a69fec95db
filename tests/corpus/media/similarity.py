"""How alike a text that was read and the known one are: prints a line for each file.

    python tests/corpus/media/similarity.py [full|fast]

The measure is ``difflib.SequenceMatcher.ratio`` over words (runs of letters, marks and digits,
after NFKC): twice the number of words that both texts have in the same order, by the number of
words of both.  Marks of Markdown are no words; list numbers, HTML tags and link targets are
taken out of both.
"""

import csv
import difflib
import os
import sys
import time
import unicodedata
from pathlib import Path

import regex

from headrace.corpus.documents import Record
from headrace.corpus.media import HtmlSettings, MediaSettings, OcrSettings, read_records

_REMOVED = (
    regex.compile(r"<[^<>]*>"),
    regex.compile(r"(?<=\])\([^()\s]*\)"),
    regex.compile(r"^\s*\d+[.)]\s", regex.MULTILINE),
)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


def words(text):
    text = unicodedata.normalize("NFKC", text)
    for pattern in _REMOVED:
        text = pattern.sub(" ", text)
    return _WORD.findall(text)


def similarity(text, known):
    return difflib.SequenceMatcher(None, words(text), words(known), autojunk=False).ratio()


def known_texts(folder):
    """``(file, file of its known text)`` of a folder with an INDEX.tsv."""
    with (folder / "INDEX.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        (folder / row["file"], folder / row["expected_text"])
        for row in rows
        if row["expected_text"]
    ]


def settings_for(path, html="full", ocr=True):
    scanned = path.name.startswith("ocr") or path.suffix in (".tif", ".png")
    return MediaSettings(
        html=HtmlSettings(mode=html), ocr=OcrSettings() if scanned and ocr else None
    )


def main():
    html = sys.argv[1] if len(sys.argv) > 1 else "full"
    for path, expected in known_texts(Path(os.environ["HEADRACE_DATA"]) / "documents"):
        begin = time.perf_counter()
        (item,) = read_records(str(path), settings_for(path, html))
        seconds = time.perf_counter() - begin
        if isinstance(item, Record):
            ratio = similarity(item.text, expected.read_text(encoding="utf-8"))
            print(f"{path.name}\t{item.format}\t{ratio:.3f}\t{seconds:.2f} s")
        else:
            print(f"{path.name}\t{item.reason}: {item.detail}")


if __name__ == "__main__":
    main()
