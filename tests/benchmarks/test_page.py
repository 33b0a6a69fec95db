"""What the pages of benchmarks share: targets, tables, and the facts at the end."""

import json
import sys

import pytest

from headrace.benchmarks.page import (
    MISSED,
    UNMEASURED,
    Target,
    by_group,
    cell,
    figure_table,
    head,
    missed_lines,
    number,
    opening,
    row_table,
    spread,
    target_table,
    where_and_how,
    write_page,
)

TARGETS = (
    Target("speed", "speed, times", at_least=5),
    Target("gap", "gap, largest", below=1e-3, digits=4),
    Target("lost", "documents lost", below=1, digits=0),
)
ROWS = [
    {"group": "small", "name": "ours", "median": 1.5, "lowest": 1, "highest": 2000.4, "mib": 0.25},
    {"group": "large", "name": "ours", "median": 7, "lowest": 7, "highest": 7},
    {"group": "small", "name": "a peer", "median": 3, "lowest": 2, "highest": 4.25},
]


def test_numbers_have_about_three_digits():
    shown = [number(value) for value in (None, 0, 3, 0.01234, 56.789, 1234.5, 508992.0)]
    assert shown == ["", "0", "3", "0.0123", "56.8", "1,234", "508,992"]


def test_text_of_errors_cannot_break_a_table():
    assert cell("a | b\nc *d* <e>") == r"a \| b c \*d\* \<e\>"
    assert cell(r"a\b `c` [d] e_f") == r"a\\b \`c\` \[d\] e\_f"


def test_a_cell_with_a_number_is_written_as_one():
    assert [cell(value) for value in (0.01234, 508992, None)] == ["0.0123", "508,992", "None"]


def test_columns_of_numbers_end_at_the_right():
    assert head(["", "s", "MiB"]) == ["|  | s | MiB |", "|:--|--:|--:|"]
    assert head(["tool", "s", "why"], words=["tool", "why"])[1] == "|:--|--:|:--|"
    assert head(["s", "MiB"], words=[])[1] == "|--:|--:|"


def test_targets_are_met_missed_or_not_measured():
    lines = target_table(TARGETS, {"speed": 5, "gap": 0.001})
    assert lines == [
        "| | measured | target | |",
        "|:--|--:|--:|:--|",
        "| speed, times | 5.0 | ≥ 5 | met |",
        f"| gap, largest | 0.0010 | < 0.001 | {MISSED} |",
        f"| documents lost |  | < 1 | {UNMEASURED} |",
    ]
    shown = target_table(TARGETS, {"speed": 5, "gap": 0.001}, number)
    assert [line.split("|")[2].strip() for line in shown[2:]] == ["5", "0.001", ""]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"speed": 5, "gap": 0, "lost": 0}, ["No target that was measured is missed."]),
        ({"speed": 4.9, "gap": 0, "lost": 1}, ["Missed: speed, times; documents lost."]),
        ({"speed": 4.9}, ["Missed: speed, times.", "Not measured: gap, largest; documents lost."]),
    ],
)
def test_what_is_missed_is_said_in_a_sentence(figures, said):
    assert missed_lines(TARGETS, figures) == said


def test_all_figures_are_in_a_table_by_name():
    assert figure_table({"a_s": 0.01234, "b": 2})[2:] == ["| `a_s` | 0.0123 |", "| `b` | 2 |"]
    assert figure_table({"a_s": 0.01234}, "{:.1f}".format)[2:] == ["| `a_s` | 0.0 |"]


def test_rows_stand_in_the_table_of_their_group():
    groups = by_group(ROWS)
    assert list(groups) == ["small", "large"]
    assert [row["name"] for row in groups["small"]] == ["ours", "a peer"]
    assert row_table(groups["small"], "seconds", {"memory, MiB": "mib"}) == [
        "|  | seconds | memory, MiB |",
        "|:--|--:|--:|",
        "| ours | 1.5 [1 2,000] | 0.25 |",
        "| a peer | 3 [2 4.25] |  |",
    ]
    shown = row_table(groups["large"], "s", {}, lambda value: f"{value:.1f}")
    assert shown[2] == "| ours | 7.0 [7.0 7.0] |"
    assert spread(None) == ""


@pytest.mark.parametrize(
    ("rounds", "words"), [(1, "1 interleaved round"), (3, "3 interleaved rounds")]
)
def test_a_page_begins_with_where_its_numbers_are_from(rounds, words):
    assert opening("stream", "contestants and figures", rounds) == [
        "# Stream benchmark",
        "",
        "Rendered from [stream.json](stream.json); contestants and figures are in "
        f"[benchmarks](../benchmarks.md#stream). Medians of {words}, with the lowest and the "
        "highest.",
    ]


def test_a_page_ends_with_where_and_how_it_was_measured():
    result = {
        "setting": {"data": "none", "threads": "2"},
        "command": "headrace benchmark stream",
        "date": "2026-01-02",
        "environment": {"cores": "2", "python": "3.11.7"},
    }
    assert where_and_how(result) == [
        "## Where and how",
        "",
        "- data: none",
        "- threads: 2",
        "- command: `headrace benchmark stream`, 2026-01-02",
        "- machine and versions: cores 2, python 3.11.7",
    ]


def test_the_page_is_written_beside_the_result(tmp_path, monkeypatch, capsys):
    path = tmp_path / "stream.json"
    path.write_text(json.dumps({"figures": {"speed": 6}}))
    monkeypatch.setattr(sys, "argv", ["stream_table.py", str(path)])
    write_page(None, lambda result: f"{result['figures']}\n", lambda figures: [*figures, "end"])
    assert path.with_suffix(".md").read_text() == "{'speed': 6}\n"
    assert capsys.readouterr().out == "speed\nend\n"
