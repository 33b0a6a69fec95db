"""What a report says of the time and memory of steps."""

import json

from headrace.report.html import render_report
from headrace.report.run_folder import read_run_folder
from headrace.report.tables import results_markdown
from headrace.report.throughput_tables import steps_table

MEASURES = {
    "step_seconds_p50": 0.05, "step_seconds_p95": 0.0625, "step_seconds_max": 1.5,
    "data_wait_share": 0.004, "overhead_share": 0.021, "memory_allocated": 12_300_000_000,
    "memory_resident": 4_500_000_000, "mfu": 0.412,
}  # fmt: skip


def measure(folder, *, results=True):
    """Give the records of a run measures; each is worse than the one before."""
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for number, record in enumerate(item for item in records if item["kind"] == "train"):
        record.update({name: value * (1 + number) for name, value in MEASURES.items()})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    if results:
        summary = json.loads((folder / "results.json").read_text())
        for branch in summary["stages"]:
            branch["throughput"].update(MEASURES)
        (folder / "results.json").write_text(json.dumps(summary))


def test_a_finished_branch_has_its_own_figures(make_run):
    folder = make_run(languages=["en"])
    measure(folder)
    (table,) = steps_table(read_run_folder(folder))
    assert [row[:2] for row in table.rows] == [("multilingual", "all"), ("monolingual", "en")]
    assert table.rows[0][2:] == (
        "50 ms", "62.5 ms", "1,500 ms", "0.4 %", "2.1 %", "12.3 GB", "4.5 GB", "41.2 %",
    )  # fmt: skip


def test_a_branch_that_is_under_way_has_those_of_its_log(make_run):
    folder = make_run(languages=["en"], finished=False)
    measure(folder, results=False)
    run = read_run_folder(folder)
    (table,) = steps_table(run)
    logged = len(run.branches[0].training)
    assert table.rows[0][2] == f"{1000 * 0.05 * (1 + (logged - 1) / 2):,.0f} ms"  # the median
    assert table.rows[0][7] == f"{12.3 * logged:.1f} GB"  # the largest


def test_without_measures_there_is_no_table(make_run):
    folder = make_run(languages=["en"])
    run = read_run_folder(folder)
    assert steps_table(run) == []
    assert "## Steps" not in results_markdown(read_run_folder(folder))
    measure(folder)
    assert "## Steps" in results_markdown(read_run_folder(folder))


def test_figures_that_a_device_does_not_have_are_left_open(make_run):
    folder = make_run(languages=["en"])
    measure(folder)
    summary = json.loads((folder / "results.json").read_text())
    for branch in summary["stages"]:
        branch["throughput"].update(memory_allocated=None, mfu=None)
    (folder / "results.json").write_text(json.dumps(summary))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.update(memory_allocated=None, mfu=None)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run_folder(folder)
    (table,) = steps_table(run)
    assert (table.rows[0][7], table.rows[0][9]) == ("–", "–")
    assert "GPU memory" in render_report(run)
