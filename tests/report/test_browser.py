"""The report in a real browser: nothing in the console, nothing wider than the window."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.cli import main
from headrace.report import write_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)
VISIBLE = (
    *("h1", ".tile", "#results table", "#results figure svg", "#types table", "#types td"),
    *("#subsets table", ".plan .stage", ".shares .bar span", ".branches li"),
    *("#curves figure svg", "#throughput table", "#reproduce pre", ".legend .swatch"),
)
MEASURE = """
return arguments[0].map(selector => {
  const box = document.querySelector(selector)?.getBoundingClientRect();
  return [selector, box?.width ?? 0, box?.height ?? 0];
});
"""
SCROLLS_SIDEWAYS = """
const page = document.documentElement;
return page.scrollWidth > page.clientWidth;
"""
OVERFLOWING = """
const limit = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")].filter(element =>
  !element.closest(".scroll, pre, .sections, .skip, svg") &&
  element.getBoundingClientRect().right > limit + 0.5
).map(element => element.tagName + "." + element.className);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def show(browser: Any, page: Path, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.as_uri())


@pytest.fixture
def page(make_run: Callable[..., Path]) -> Path:
    return write_report(make_run("run", name="a-very-long-name" * 12), [make_run("two", seed=2)])


@pytest.fixture(scope="module")
def selection_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a selection past the knee, in groups with long names."""
    folder = tmp_path_factory.mktemp("selection")
    rows = np.random.default_rng(0).standard_normal((300, 8)) + 1
    np.save(folder / "v.npy", rows)
    names = [f"{'a-long-name' * (1 + row % 9)}/{row}" for row in range(300)]
    (folder / "ids.txt").write_text("\n".join(names))
    options = ["--vectors", str(folder / "v.npy"), "--ids", str(folder / "ids.txt")]
    assert main(["select", *options, "--rows", "90", "--output", str(folder / "out")]) == 0
    return folder / "out" / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(browser: Any, page: Path, width: int, scheme: str) -> None:
    show(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    sizes = browser.execute_script(MEASURE, list(VISIBLE))
    assert [entry for entry in sizes if entry[1] < 1 or entry[2] < 1] == []
    assert browser.execute_script(SCROLLS_SIDEWAYS) is False
    assert browser.execute_script(OVERFLOWING) == []
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    expected = {"light": "rgb(246, 247, 245)", "dark": "rgb(14, 21, 24)"}
    assert background == expected[scheme]
    ink = browser.execute_script(
        "return getComputedStyle(document.querySelector('#results figure svg text')).fill"
    )
    assert ink != "rgb(0, 0, 0)"  # figures follow the theme


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_multiple_choice_fits_too(
    browser: Any, make_choice_run: Callable[..., Path], width: int
) -> None:
    show(browser, write_report(make_choice_run("run"), [make_choice_run("two")]), width, "light")
    assert browser.get_log("browser") == []
    visible = [selector for selector in VISIBLE if not selector.startswith(("#types", "#subsets"))]
    sizes = browser.execute_script(MEASURE, [*visible, "#questions table", "#comparison table"])
    assert [entry for entry in sizes if entry[1] < 1 or entry[2] < 1] == []
    assert browser.execute_script(SCROLLS_SIDEWAYS) is False
    assert browser.execute_script(OVERFLOWING) == []
    titles = "return [...document.querySelectorAll('.tile dt')].map(tile => tile.innerText)"
    assert browser.execute_script(titles)[:2] == ["Accuracy", "Gain"]
    assert "F1" not in browser.execute_script("return document.body.innerText")


def test_hostile_names_run_nothing(browser: Any, make_run: Callable[..., Path]) -> None:
    folder = make_run(languages=["en"], name="<img src=x onerror='document.title=\"hit\"'>")
    show(browser, write_report(folder), 1280, "light")
    assert browser.title.startswith("<img src=x")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.images.length") == 0


def test_an_empty_run_fits_too(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    show(browser, write_report(tmp_path), 390, "light")
    assert browser.get_log("browser") == []
    assert browser.execute_script(SCROLLS_SIDEWAYS) is False


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_a_selection_fits_too(
    browser: Any, selection_page: Path, width: int, scheme: str
) -> None:
    show(browser, selection_page, width, scheme)
    assert browser.get_log("browser") == []
    parts = ("gains", "coverage", "groups", "map")
    visible = ["h1", ".tile", ".notes", "#groups table", *(f"#{part} figure svg" for part in parts)]
    sizes = browser.execute_script(MEASURE, visible)
    assert [entry for entry in sizes if entry[1] < 1 or entry[2] < 1] == []
    assert browser.execute_script(SCROLLS_SIDEWAYS) is False
    assert browser.execute_script(OVERFLOWING) == []
    ink = browser.execute_script(
        "return getComputedStyle(document.querySelector('#gains figure svg text')).fill"
    )
    assert ink != "rgb(0, 0, 0)"
