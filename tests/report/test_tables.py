from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headrace.report import results_markdown, write_results_markdown
from headrace.report.run_folder import read_run_folder
from headrace.report.summary import compare_runs, language_results, spread
from headrace.report.tables import Table, comparison_table, headline_table, part_tables

RunMaker = Callable[..., Path]


def metrics_of(folder: Path, stage: str, branch: str) -> dict[str, dict[str, float]]:
    for entry in json.loads((folder / "results.json").read_text())["stages"]:
        if (entry["stage"], entry["branch"]) == (stage, branch):
            found: dict[str, dict[str, float]] = entry["metrics"]
            return found
    raise KeyError(stage, branch)


def test_the_headline_takes_each_language_from_its_own_branch(make_run: RunMaker) -> None:
    folder = make_run(languages=["en", "hi"])
    table = headline_table(read_run_folder(folder))
    row = dict(zip(table.columns, table.rows[1], strict=True))
    before = metrics_of(folder, "multilingual", "all")["hi"]
    after = metrics_of(folder, "monolingual", "hi")["hi"]
    assert row["Language"] == "hi"
    assert row["Fine macro F1, multilingual"] == f"{100 * before['fine_macro_f1']:.2f}"
    assert row["Fine macro F1, monolingual"] == f"{100 * after['fine_macro_f1']:.2f}"
    assert row["Micro F1"] == f"{100 * after['micro_f1']:.2f}"
    gain = 100 * (after["fine_macro_f1"] - before["fine_macro_f1"])
    assert float(row["Gain"].replace("−", "-")) == pytest.approx(gain, abs=0.006)
    assert table.rows[-1][0] == "Mean"
    mean = np.mean([metrics_of(folder, "monolingual", x)[x]["fine_macro_f1"] for x in ("en", "hi")])
    assert table.rows[-1][2] == f"{100 * mean:.2f}"


def test_a_mean_over_some_languages_says_so(make_run: RunMaker) -> None:
    run = read_run_folder(make_run(languages=["bn", "en", "hi"], finished=False))
    means = headline_table(run).rows[-1]
    assert means[2].endswith("(2 of 3)")


def test_markdown_has_every_stage_and_subset(make_run: RunMaker) -> None:
    text = results_markdown(make_run(languages=["en", "hi"]))
    for wanted in ("## Result by language", "## Clean and noisy subsets", "## Throughput"):
        assert wanted in text
    assert "| multilingual | all | hi |" in text
    assert "| monolingual | hi | hi |" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        columns = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(columns) == 1


def test_there_is_no_subset_table_without_subsets(make_run: RunMaker) -> None:
    assert part_tables(read_run_folder(make_run(languages=["en"], subsets=False))) == {}


def test_mean_and_sample_deviation_agree_with_numpy(make_run: RunMaker) -> None:
    folders = [make_run(f"seed{seed}", languages=["en", "hi"], seed=seed) for seed in (1, 2, 3)]
    runs = [read_run_folder(folder) for folder in folders]
    values = [metrics_of(folder, "monolingual", "hi")["hi"]["micro_f1"] for folder in folders]
    (line,) = [
        line
        for line in compare_runs(runs, ["micro_f1"])
        if (line.stage, line.language) == ("monolingual", "hi")
    ]
    assert line.values == tuple(values)
    assert line.spread is not None
    assert line.spread.mean == pytest.approx(np.mean(values))
    assert line.spread.deviation == pytest.approx(np.std(values, ddof=1))
    cell = f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"
    assert cell in comparison_table(runs, "micro_f1").text()
    assert cell in results_markdown(folders[0], folders[1:])


def test_one_run_has_no_deviation() -> None:
    only = spread([0.5])
    assert only is not None
    assert (only.mean, only.deviation, only.runs) == (0.5, None, 1)
    assert spread([]) is None


def test_a_run_without_validation_says_so(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"kind":"start","stage":"s","branch":"all","step":0}\n'
    )
    text = write_results_markdown(tmp_path).read_text()
    assert "There are no validation scores yet." in text
    assert "0 of 1 branch has a result" in text
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl", "results.md"]


def test_other_scores_are_shown_where_there_is_no_f1(tmp_path: Path) -> None:
    stage = {"stage": "s", "branch": "all", "metrics": {"en": {"perplexity": 12.345}}}
    (tmp_path / "results.json").write_text(json.dumps({"stages": [stage]}))
    table = headline_table(read_run_folder(tmp_path))
    assert (table.columns[1], table.rows[0][1]) == ("Perplexity", "12.35")


def test_names_cannot_break_a_table() -> None:
    table = Table("t", ("a", "b"), (("x|y <b>*z*\n\x1b[31m", "1"),))
    assert table.markdown().splitlines()[2] == "| x\\|y &lt;b&gt;\\*z\\*  \\[31m | 1 |"
    assert "\x1b" not in table.text()


def test_wide_characters_keep_columns_aligned() -> None:
    lines = Table("t", ("name", "n"), (("中文", "1"), ("english", "22"))).text().splitlines()
    assert lines[3] == "中文      1"  # two letters as wide as four
    assert lines[4] == "english  22"


def test_languages_keep_the_order_of_training(make_run: RunMaker) -> None:
    run = read_run_folder(make_run(languages=["zh", "bn", "en"]))
    assert [result.language for result in language_results(run)] == ["zh", "bn", "en"]
