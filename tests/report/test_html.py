from __future__ import annotations

import html.parser
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.errors import MissingExtraError
from headrace.report import write_report
from headrace.report.heat_map import heat_map, readable_type
from headrace.report.plots import MAXIMUM_POINTS, WIDE, loss_plot
from headrace.report.run_folder import read_run_folder

RunMaker = Callable[..., Path]
EVIL = '</title><script>alert(1)</script><img src=x onerror="alert(2)">\'"&'


class Page(html.parser.HTMLParser):
    """Every element of a page, with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def drawings(page: str) -> list[ElementTree.Element]:
    found = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    return [ElementTree.fromstring(text) for text in found]


def test_the_page_has_every_part(make_run: RunMaker) -> None:
    page = write_report(make_run(languages=["en", "hi", "zh"])).read_text()
    for part in ("results", "types", "subsets", "plan", "curves", "throughput", "reproduce"):
        assert f'<section id="{part}"' in page
        assert f'href="#{part}"' in page
    text = Page(page).text
    for wanted in ("Human settlement", "Medication/Vaccine", "Creative work", "bf16, ZeRO 2"):
        assert wanted in text
    assert "Starts from multilingual" in text
    assert "deepspeed launch/train.py --ds_config" in text
    assert "s3://corpora/ner/hi/train" in text  # in the resolved config
    assert "H100" in text


def test_nothing_is_fetched(make_run: RunMaker) -> None:
    page = write_report(make_run(languages=["en", "hi"])).read_text()
    for tag, attributes in Page(page).elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes)
    for target in re.findall(r"url\(\s*['\"]?([^)]*)", page):
        assert target.startswith("#")
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_names_from_files_stay_text(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"], name=EVIL)
    for name in ("metrics.jsonl", "results.json"):
        path = folder / name
        text = path.read_text()
        for harmless in ('"en"', '"Artist"', '"multilingual"', '"noisy"', '"3.11.2"'):
            text = text.replace(harmless, json.dumps(EVIL + harmless.strip('"')))
        path.write_text(text)
    harmless = Page(write_report(make_run("harmless", languages=["en"])).read_text())
    evil = Page(write_report(folder, [folder]).read_text())
    kinds = {tag for tag, _ in harmless.elements}
    assert {tag for tag, _ in evil.elements} <= kinds | {"aside", "h3"}
    assert not any("onerror" in attributes for _, attributes in evil.elements)
    assert EVIL in evil.text
    ids = [attributes["id"] for _, attributes in evil.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_figures_are_accessible_themed_and_keep_text(make_run: RunMaker) -> None:
    page = write_report(make_run(languages=["en", "hi"])).read_text()
    figures = [svg for svg in drawings(page) if svg.get("role") == "img"]
    assert len(figures) >= 7
    for figure in figures:
        ids = {element.get("id") for element in figure.iter()}
        assert set((figure.get("aria-labelledby") or "").split()) <= ids
        assert figure[0].tag == "title"
        assert figure[0].text
        assert figure[1].tag == "desc"
        assert figure[1].text
        assert list(figure.iter("text"))
        styles = " ".join(element.get("style", "") for element in figure.iter())
        assert "var(--" in styles
        assert not re.search(r"#0101|#0102", styles)  # no placeholder is left
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert set(used) <= set(re.findall(r' id="([^"]+)"', page))


def test_text_that_looks_like_mathematics_or_is_not_latin_is_kept(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"])
    for path in (folder / "metrics.jsonl", folder / "results.json"):
        path.write_text(path.read_text().replace('"en"', '"中文 हिन्दी $x_1^2$"'))
    page = write_report(folder).read_text()
    bars = next(svg for svg in drawings(page) if "bars-" in (svg.get("aria-labelledby") or ""))
    assert "中文 हिन्दी $x_1^2$" in ["".join(text.itertext()) for text in bars.iter("text")]


def test_bars_and_validations_tell_their_values_on_hover(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"])
    page = write_report(folder).read_text()
    final = json.loads((folder / "results.json").read_text())["stages"][1]
    score = final["metrics"]["en"]["fine_macro_f1"]
    hovers = {title.text for svg in drawings(page) for title in svg.iter("title")}
    assert f"en, monolingual: {100 * score:.2f}" in hovers
    step, loss = final["best_step"], final["validation_loss"]
    assert f"step {step:,}: validation loss {loss:.4f} (best)" in hovers


def test_the_same_run_gives_the_same_bytes(make_run: RunMaker) -> None:
    folder = make_run(languages=["en", "hi"])
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_long_logs_become_short_curves(tmp_path: Path) -> None:
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in range(20_000):
            record = {"kind": "train", "stage": "s", "branch": "all", "step": step, "loss": 2.0}
            file.write(json.dumps(record) + "\n")
    (branch,) = read_run_folder(tmp_path).branches
    drawing = loss_plot(branch, name="loss", size=WIDE, limit=3.0)
    assert max(path.count("L") for path in re.findall(r' d="([^"]*)"', drawing)) <= MAXIMUM_POINTS


def test_the_heat_map_groups_types_by_family(make_run: RunMaker) -> None:
    folder = make_run(languages=["en", "hi"])
    results = json.loads((folder / "results.json").read_text())
    of_english = results["stages"][1]["metrics"]["en"]["by_type"]
    of_english["Artist"] |= {"f1": 0.0, "gold": 0, "predicted": 0, "correct": 0}
    of_english["Cleric"] |= {"f1": 0.4321, "gold": 87}
    (folder / "results.json").write_text(json.dumps(results))
    found = heat_map(read_run_folder(folder))
    assert found is not None
    titles = [family.heading.label for family in found.families]
    assert titles == ["Location", "Creative work", "Group", "Person", "Product", "Medical"]
    assert sum(len(family.types) for family in found.families) == 33
    person = {row.label: row for row in found.families[3].types}
    assert person["Artist"].cells[0].step is None  # nothing to find, nothing found: no score
    assert person["Artist"].cells[2].text == person["Artist"].cells[1].text  # mean of the rest
    assert person["Cleric"].cells[0].text == "43"
    assert "87 in the data" in person["Cleric"].cells[0].hover


def test_types_of_an_unknown_label_set_are_shown_in_one_group(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"])
    path = folder / "results.json"
    path.write_text(path.read_text().replace('"multiconer_v2"', '"moved/away.json"'))
    found = heat_map(read_run_folder(folder))
    assert found is not None
    assert [len(family.types) for family in found.families] == [33]


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("HumanSettlement", "Human settlement"),
        ("MusicalGRP", "Musical GRP"),
        ("OtherPER", "Other PER"),
        ("ORG", "ORG"),
        ("Medication/Vaccine", "Medication/Vaccine"),
    ],
)
def test_type_names_become_words(name: str, readable: str) -> None:
    assert readable_type(name) == readable


@pytest.mark.parametrize(
    ("present", "said"),
    [
        (["config.json"], "No validation yet"),
        (["metrics.jsonl"], "holds no config.json"),
        (["results.json"], "Nothing is logged yet"),
    ],
)
def test_each_file_alone_is_enough(make_run: RunMaker, present: list[str], said: str) -> None:
    folder = make_run(languages=["en"])
    for path in folder.iterdir():
        if path.name not in present:
            path.unlink()
    assert said in write_report(folder).read_text()


def test_a_missing_extra_is_named(make_run: RunMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(languages=["en"])
    for package in ("matplotlib", "jinja2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtraError, match=rf"{package}.*headrace\[report\]"):
                write_report(folder)
    assert not (folder / "report.html").exists()


def test_the_command_writes_both_files_and_prints_the_table(
    make_run: RunMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (make_run(name, languages=["en", "hi"], seed=len(name)) for name in ("a", "bb"))
    assert main(["report", str(one), "--compare", str(two)]) == 0
    printed = capsys.readouterr().out
    assert "Fine macro F1, monolingual" in printed
    assert "±" in printed
    assert (one / "report.html").is_file()
    assert (one / "results.md").is_file()
    assert not (two / "report.html").exists()
    assert sorted(path.name for path in one.glob(".*")) == []  # no temporary file is left
    assert main(["report", str(one / "nowhere")]) == 2


def test_a_page_of_multiple_choice_speaks_of_accuracy(make_choice_run: RunMaker) -> None:
    folder = make_choice_run(languages=["en", "hi"])
    page = write_report(folder).read_text()
    text = Page(page).text
    for wanted in ("Accuracy", "Chance", "Cause and effect questions", "nats per sample"):
        assert wanted in text
    assert "F1" not in text
    assert "labelled word" not in text
    assert '<section id="types"' not in page
    assert "mean of 2 languages, chance 40.00" in text
    assert "Accuracy by language and stage" in page
    results = json.loads((folder / "results.json").read_text())["stages"]
    last = next(entry for entry in results if entry["branch"] == "hi")
    assert f"{100 * last['metrics']['hi']['accuracy']:.2f}" in text


def test_learning_rates_of_groups_have_a_line_each(make_run: RunMaker) -> None:
    folder = make_run(languages=["en", "hi"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = [f"layer-{number}" for number in range(6)]
    for line in lines:
        if line["kind"] == "train" and line["stage"] == "multilingual":
            rate = line["learning_rate"]
            rates = {name: rate * 2.0**number for number, name in enumerate(names)}
            line["learning_rates"] = {"words": rate, **rates, EVIL: 0.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(folder).read_text()
    assert "<script>alert" not in page
    (drawing,) = [
        drawing
        for drawing in drawings(page)
        if "Learning rates by group, stage multilingual" in "".join(drawing.itertext())
    ]
    shown = [element.text for element in drawing.iter() if element.tag.endswith("title")]
    # groups with equal rates share a line, and one of rate 0 has none
    assert shown[1:] == ["words, layer-0", *names[1:]]
    text = Page(page).text
    for name in ["words, layer-0", *names[1:]]:
        assert name in text
    assert page.count("Learning rates by group") >= 2
    assert text.count("Learning rate, all branches") == 1  # the stage without groups
