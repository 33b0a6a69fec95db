"""How alike a text that was read and the known one are: prints a line for each file.

    python tests/corpus/media/similarity.py [full|fast]

The measure is ``difflib.SequenceMatcher.ratio`` over words: twice the words that both have in the
same order, by the words of both, after NFKC (ligatures, forms of Arabic letters) and with all
marks of Markdown (``# * _ ` | > - + [ ] ( ) ! \\``), list numbers, HTML comments and link targets
removed from both.
"""

import csv
import difflib
import os
import re
import sys
import time
import unicodedata
from pathlib import Path

from headrace.corpus.documents import Record
from headrace.corpus.media import HtmlSettings, MediaSettings, OcrSettings, read_records

_REMOVED = (
    (re.compile(r"<!--.*?-->", re.DOTALL), " "),
    (re.compile(r"\]\([^()\s]*\)"), " "),
    (re.compile(r"^\s*\d+[.)]\s", re.MULTILINE), " "),
    (re.compile(r"[#*_`|>+\[\]()!\\-]"), " "),
)


def words(text):
    for pattern, replacement in _REMOVED:
        text = pattern.sub(replacement, unicodedata.normalize("NFKC", text))
    return text.split()


def similarity(text, known):
    return difflib.SequenceMatcher(None, words(text), words(known), autojunk=False).ratio()


def known_texts(folder):
    """``(file, file of its known text)`` of a folder with an INDEX.tsv."""
    with (folder / "INDEX.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        (folder / row["file"], folder / row["expected_text"]) for row in rows if row["expected_text"]
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
