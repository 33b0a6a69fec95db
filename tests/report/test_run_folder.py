from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import UserError
from headrace.report.run_folder import read_run_folder

RunMaker = Callable[..., Path]


def test_a_finished_run_is_read_whole(make_run: RunMaker) -> None:
    run = read_run_folder(make_run(languages=["en", "hi"]))
    assert run.finished
    assert [(branch.stage, branch.name) for branch in run.branches] == [
        ("multilingual", "all"),
        ("monolingual", "en"),
        ("monolingual", "hi"),
    ]
    first = run.branches[0]
    assert first.start is not None
    assert first.start.world_size == 4
    assert sum(first.start.mixture.values()) == pytest.approx(1)
    assert len(first.scores["hi"].by_type) == 33
    assert first.scores["hi"].subsets["noisy"].samples == 127
    assert run.unreadable_lines == ()


def test_a_torn_last_line_is_left_out_and_reported(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"])
    metrics = folder / "metrics.jsonl"
    whole = metrics.read_bytes()
    before = read_run_folder(folder)
    metrics.write_bytes(whole + b'{"kind":"train","stage":"monolingual","bra')
    after = read_run_folder(folder)
    assert after.unreadable_lines == (whole.count(b"\n") + 1,)
    assert after.branches == before.branches


def test_a_torn_line_followed_by_a_restart_costs_that_line_only(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"], finished=False)
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if '"start"' in line]
    again = {"kind": "train", "stage": "monolingual", "branch": "en", "step": 21, "loss": 9.5}
    torn = lines[starts[1] + 2][:30] + lines[starts[1]]  # torn record and restart on one line
    text = "".join(lines) + torn + lines[starts[1]] + json.dumps(again) + "\n"
    metrics.write_text(text)
    branch = read_run_folder(folder).branches[1]
    assert branch.restarts == 1
    (repeated,) = [point for point in branch.training if point.step == 21]
    assert repeated.loss == 9.5


def test_a_step_logged_twice_counts_once_with_its_last_record(tmp_path: Path) -> None:
    place = {"kind": "train", "stage": "one", "branch": "all", "step": 10}
    records = [{**place, "loss": 3.0}, {**place, "loss": 2.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (branch,) = read_run_folder(tmp_path).branches
    assert [point.loss for point in branch.training] == [2.0]


def test_a_going_run_uses_its_best_validation(make_run: RunMaker) -> None:
    run = read_run_folder(make_run(languages=["en", "hi", "zh"], finished=False))
    assert not run.finished
    assert [branch.status for branch in run.branches] == [
        *("unfinished", "unfinished", "unfinished"),
        "planned",
    ]
    best = run.branches[0].best_validation
    assert best is not None
    assert best.loss == min(item.loss or 9 for item in run.branches[0].validations)
    assert run.branches[0].validation_loss == best.loss


def test_a_branch_result_is_found_before_results_json_is_written(make_run: RunMaker) -> None:
    folder = make_run(languages=["en"])
    (multilingual, _) = json.loads((folder / "results.json").read_text())["stages"]
    (folder / "results.json").unlink()
    (folder / "multilingual" / "all").mkdir(parents=True)
    (folder / "multilingual" / "all" / "result.json").write_text(json.dumps(multilingual))
    run = read_run_folder(folder)
    assert [branch.status for branch in run.branches] == ["finished", "unfinished"]
    assert run.branches[0].best_step == multilingual["best_step"]


def test_a_stage_name_cannot_lead_out_of_the_run_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "result.json").write_text('{"steps": 5}')
    (run / "metrics.jsonl").write_text('{"kind":"start","stage":"..","branch":"all","step":0}\n')
    assert read_run_folder(run).branches[0].result is None


@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_damaged_files_are_named_with_their_line(make_run: RunMaker, name: str) -> None:
    folder = make_run(languages=["en"])
    (folder / name).write_text('{\n "a": \n')
    with pytest.raises(UserError, match=rf"{name}:\d: this is not JSON"):
        read_run_folder(folder)


def test_a_folder_that_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        read_run_folder(tmp_path)
    with pytest.raises(UserError, match="no such run folder"):
        read_run_folder(tmp_path / "missing")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["step", "steps", "loss", "languages", "mixture", "metrics", "loss_by_language", "best", "time"]
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["start", "train", "validation", "later"]),
    record=st.dictionaries(KEYS, JSON_VALUES, max_size=6),
    tail=st.binary(max_size=40),
)
def test_no_line_of_metrics_can_stop_a_report(
    tmp_path_factory: pytest.TempPathFactory, kind: str, record: dict[str, object], tail: bytes
) -> None:
    from headrace.report.tables import results_markdown

    folder = tmp_path_factory.mktemp("run")
    event = {"step": 1, **record, "kind": kind, "stage": "one", "branch": "all"}
    (folder / "metrics.jsonl").write_bytes(json.dumps(event).encode() + b"\n" + tail)
    assert results_markdown(read_run_folder(folder)).startswith("# Results of")
