"""The page of a corpus: what it says, that it is accessible, and that it needs nothing else."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from headrace.cli import main
from headrace.report import corpus_tables

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SPEAKERS = "language,speakers\nen,1500000\nsw,80000\nfr,300000\nzh,1100000\n"


@pytest.fixture(scope="module")
def reported(written_corpus, other_corpus, tmp_path_factory):
    """The folder of a corpus with its report, beside another one."""
    folder = tmp_path_factory.mktemp("reported") / "river"
    shutil.copytree(written_corpus.path, folder)
    speakers = folder.parent / "speakers.csv"
    speakers.write_text(SPEAKERS)
    options = ["--speakers", str(speakers), "--compare", str(other_corpus.path)]
    assert main(["report", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def page(reported):
    return (reported / "report.html").read_text(encoding="utf-8")


def test_every_number_of_the_report_is_on_the_page(reported, page):
    report = json.loads((reported / "report.json").read_text(encoding="utf-8"))
    for row in report["by"]["language"]:
        for size in ("documents", "characters", "bytes", "words"):
            assert f"<td>{row[size]:,}</td>" in page
    for row in report["removal"]:
        hover = f"{row['rule']}, {row['language']}: {row['documents']} of {row['of']} documents"
        assert f'title="{hover}"' in page
    for row in report["private"]:
        assert f"EMAIL, {row['language']}: {row['findings']} in {row['documents']}" in page
    assert "No privacy pack for sw: only the universal one was used." in page
    assert "The licence of 41 documents (31.3 %) is not known." in page
    assert "Village &lt;news&gt; &amp; more" in page
    assert "Not in the table: und." in page
    assert "<span>3 languages</span>" in page  # und is none
    assert [other["name"] for other in report["comparisons"]] == ["Other texts"]
    assert "Beside Other texts" in page


def test_languages_of_which_nothing_was_kept_are_one_row():
    def row(language, rule, documents, of):
        found = {"documents": documents, "of": of, "share": documents / of}
        return {"language": language, "rule": rule, **found}

    sizes = {"documents": 8, "bytes": 9, "characters": 9, "words": None}
    removal = [row("en", "a", 2, 10), row("xx", "a", 1, 3)]
    removal += [row("xx", "b", 2, 3), row("yy", "b", 5, 5)]
    summary = {
        "by": {"language": [{"language": "en", **sizes}]},
        "totals": {**sizes, "filtered": 10},
        "tokens": None,
        "removal": removal,
    }
    table = corpus_tables.language_table(summary)
    assert [(cells[0], cells[1], cells[-1]) for cells in table.rows] == [
        ("en", "8", "20.0 %"), ("others", "0", "100.0 %"), ("all", "8", "55.6 %"),
    ]  # fmt: skip
    matrix = corpus_tables.removal_matrix(summary)
    assert matrix.columns == ("en", "others", "all")
    texts = {line.label: [cell.text for cell in line.cells] for line in matrix.rows}
    assert texts == {"b": ["–", "87.5", "38.9"], "a": ["20.0", "12.5", "16.7"]}


def test_limits_of_another_corpus_are_counted_here(reported, page, written_corpus):
    report = json.loads((reported / "report.json").read_text(encoding="utf-8"))
    (other,) = report["comparisons"]
    found = {(row["language"], row["measure"]): row["documents"] for row in other["filters"]}
    wanted = Counter()
    for document in written_corpus.documents:
        words, length = document.quality["words"], document.quality["mean_word_length"]
        broken = {
            "words": document.language in ("en", "und") and not 40 <= words <= 80,
            "mean_word_length": document.language != "zh" and length < 3.2,
        }
        broken["any"] = any(broken.values())
        wanted.update((document.language, name) for name, breaks in broken.items() if breaks)
    assert found == wanted
    assert "What the quality limits of Other texts would leave out here" in page
    assert f"words, en: {wanted['en', 'words']} of 55 documents" in page


def test_every_figure_has_a_text(page):
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", page, re.S)]
    texts = {s.findtext("title"): s.findtext("desc") for s in drawings if s.get("role") == "img"}
    assert len(texts) == 4
    assert "sw: 60 kept, 2 left out" in texts["Documents by language"]
    assert (
        "fr: 0.0 % of the characters"
        in texts["Shares of the languages beside those of their speakers"]
    )
    assert "en: median 48" in texts["words by language"]


def test_it_needs_nothing_else(page):
    assert "<script" not in page
    links = re.findall(r"""(?:href|src)=["']([^"']*)""", page) + re.findall(r"url\(([^)]*)\)", page)
    assert [link for link in links if not link.startswith(("#", "data:"))] == []


def test_the_table_is_printed(written_corpus, own_corpus, capsys):
    assert main(["report", str(own_corpus.path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^sw +60 +16,536 ", said, re.M)
    assert "river/report.html and " in said
    report = json.loads((own_corpus.path / "report.json").read_text(encoding="utf-8"))
    assert "speakers" not in report


def test_speakers_are_only_for_a_corpus(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--speakers", "x.csv"]) == 2
    said = capsys.readouterr().err
    assert "only for a corpus" in said


def test_a_corpus_is_not_compared_with_a_run(own_corpus, tmp_path, capsys):
    assert main(["report", str(own_corpus.path), "--compare", str(tmp_path)]) == 2
    assert "no corpus is in this folder" in capsys.readouterr().err
    assert not (own_corpus.path / "report.html").exists()


MEASURE = """
return arguments[0].map(selector => {
  const box = document.querySelector(selector)?.getBoundingClientRect();
  return [selector, box?.width ?? 0, box?.height ?? 0];
});
"""
WRONG = """
const page = document.documentElement, limit = page.clientWidth;
return [page.scrollWidth > limit, [...document.querySelectorAll("body *")].filter(element =>
  !element.closest(".scroll, pre, .sections, .skip, svg") &&
  element.getBoundingClientRect().right > limit + 0.5
).map(element => element.tagName + "." + element.className)];
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver")
def test_the_page_fits_its_window(reported):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    sections = ("languages", "origin", "balance", "rules", "private", "duplicates", "comparison")
    figures = ("languages", "balance", "quality")
    visible = [
        *("h1", ".tile", ".notes"),
        *(f"#{name} table" for name in sections),
        *(f"#{name} figure svg" for name in figures),
    ]
    try:
        for width, scheme in ((390, "dark"), (1280, "light")):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.get((reported / "report.html").as_uri())
            assert browser.get_log("browser") == []
            measured = browser.execute_script(MEASURE, visible)
            assert [entry for entry in measured if entry[1] < 1 or entry[2] < 1] == []
            assert browser.execute_script(WRONG) == [False, []]
    finally:
        browser.quit()
