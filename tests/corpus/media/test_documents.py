"""The documents of HEADRACE_DATA are read as well as docs/documents.md says."""

import importlib.util
import os
import re
import shutil
from pathlib import Path

import pytest

from headrace.corpus.documents import Record
from headrace.corpus.media import HtmlSettings, MediaSettings, OcrSettings
from headrace.errors import CorpusError

DATA = os.environ.get("HEADRACE_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="HEADRACE_DATA is not set")
FOLDER = Path(DATA or ".") / "documents"
PAGE = Path(__file__).parents[3] / "docs" / "documents.md"
_FILE = Path(__file__).with_name("similarity.py")
_SPEC = importlib.util.spec_from_file_location("similarity", _FILE)
similarity = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(similarity)
needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="the program tesseract is not installed"
)
SCANNED = ("ocr_test.pdf", "phototest.tif")


def table():
    """``(file, full, fast)`` of the page's tables; fast is None but for web pages."""
    text = PAGE.read_text(encoding="utf-8")
    files = re.findall(r"^\| `([\w.]+)` \| [a-z, ]+ \| (\d\.\d+) \|", text, re.MULTILINE)
    pages = re.findall(r"^\| `([\w.]+)` \| (\d\.\d+) \| (\d\.\d+) \|", text, re.MULTILINE)
    return [(name, float(value), None) for name, value in files] + [
        (name, float(full), float(fast)) for name, full, fast in pages
    ]


def known(name):
    return next(text for path, text in similarity.known_texts(FOLDER) if path.name == name)


def check(read, name, settings, value):
    (record,) = read(FOLDER / name, settings)
    text = known(name).read_text(encoding="utf-8")
    assert similarity.similarity(record.text, text) == pytest.approx(value, abs=0.02)


def test_texts_are_as_like_the_known_ones_as_the_page_says(read):
    rows = [row for row in table() if row[0] not in SCANNED]
    assert len(rows) >= 18
    for name, full, fast in rows:
        check(read, name, MediaSettings(), full)
        if fast is not None:
            check(read, name, MediaSettings(html=HtmlSettings(mode="fast")), fast)


@needs_tesseract
@pytest.mark.slow
def test_scanned_pages_are_read_as_images(read):
    for name, value, _ in table():
        if name in SCANNED:
            (bad,) = read(FOLDER / name)
            assert bad.reason == "not supported"
            check(read, name, MediaSettings(ocr=OcrSettings()), value)


@needs_tesseract
def test_a_language_that_tesseract_lacks_is_told_before_reading(read):
    with pytest.raises(CorpusError, match=r"tesseract lacks a language.*tlh"):
        read(FOLDER / "gone.png", MediaSettings(ocr=OcrSettings(languages=("eng", "tlh"))))


def test_columns_are_read_one_after_the_other(read):
    (record,) = read(FOLDER / "multicolumn.pdf")
    flat = " ".join(record.text.split())
    # The end of the left column and the beginning of the right one, on the first page.
    assert "sollicitudin vel, wisi. Morbi auctor lorem non justo" in flat
    assert "pellentesque ante. Phasellus adipiscing semper elit. Proin fermentum" in flat
    assert len(record.metadata["pages"]) == 3
    for begin in record.metadata["pages"][1:]:
        assert record.text[begin - 2 : begin] == "\n\n"


def test_every_document_is_read_or_refused_for_a_known_reason(read):
    refused = {}
    for path in sorted(FOLDER.iterdir()):
        if path.name == "INDEX.tsv":
            continue  # a table without a column of texts
        for item in read(path):
            if isinstance(item, Record):
                assert item.text.strip()
            else:
                refused[path.name] = item.reason
    assert set(refused.values()) == {"not supported"}
    assert {name for name in refused if not name.endswith((".png", ".tif", ".pdf"))} == {
        "REUSE.ocrmypdf.toml",
        "eng_spa_mult.pptx",
        "greek_heading_styles.doc",
    }
