"""The benchmark of the corpus build at a tiny size: what it counts and writes, not how fast."""

import json
import math
import os
import random
import subprocess
from pathlib import Path

import pytest

from headrace.benchmarks import build
from headrace.benchmarks.build_contestants import OURS, STOCK, TUNED, Place, find, tree
from headrace.benchmarks.build_data import (
    NEAR,
    Text,
    jaccard,
    make_data_set,
    originals,
    plant,
)
from headrace.benchmarks.build_duplicates import joined, listed, pairs_of
from headrace.benchmarks.build_faults import POISONS, _marks, poison, poisoned
from headrace.benchmarks.build_steps import of_peer
from headrace.benchmarks.frame import environment, report
from headrace.benchmarks.page import MISSED, UNMEASURED
from tests.script_files import script

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "docs" / "results" / "build.json"
FIGURES = {
    "documents_per_s", "peak_mib", "planted_recall", "redone_after_kill_bytes", "lost_documents",
    "unrecorded_documents",
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return script("build_table")


def test_similarity_is_that_of_the_sets_of_runs():
    words = "one two three four five six seven"
    assert jaccard(words, words.upper()) == 1
    assert jaccard(words, words.replace("seven", "eight")) == 2 / 4
    assert jaccard("abcdefgh", "abcdefgx", "characters") == 1 / 3
    assert jaccard("a", "b") == 0


def test_planted_copies_are_as_similar_as_is_said():
    texts = list(originals(None, 60, 1))
    planted = list(plant(texts, 12, random.Random(1)))
    by_id = {text.id: text for text in texts}
    assert len(planted) == 12
    for copy, original, value in planted:
        assert value == jaccard(copy.text, by_id[original].text)
        assert copy.id not in by_id
    assert [value for _, _, value in planted[::3]] == [1.0] * 4
    assert any(NEAR <= value < 1 for _, _, value in planted)


def test_a_data_set_is_the_same_again_and_has_what_it_says(tmp_path):
    words = {"documents": 50, "files": 3, "seed": 4, "corpora": None}
    one = make_data_set(tmp_path / "one", **words)
    other = make_data_set(tmp_path / "other", **words)
    lines = [path.read_bytes() for path in one.files]
    assert lines == [path.read_bytes() for path in other.files]
    ids = [json.loads(line)["id"] for file in lines for line in file.splitlines()]
    assert len(ids) == len(set(ids)) == one.documents == 50
    assert one.bytes == sum(map(len, lines))
    assert set(one.copies) <= set(ids)


def test_clusters_of_a_list_are_chains_of_its_pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\tj\nx\ty\t0.9\ny\tz\t0.8\na\tb\t0.79\np\tq\t1.0\n")
    found = joined(listed(path))
    assert sorted(map(sorted, found)) == [["p", "q"], ["x", "y", "z"]]
    assert pairs_of(found) == {("x", "y"), ("x", "z"), ("y", "z"), ("p", "q")}


def test_poison_leaves_the_healthy_documents_as_they_are(tmp_path):
    texts = [Text(f"d{n}", "en", f"text number {n}") for n in range(300)]
    for number, kind in enumerate(POISONS):
        path = tmp_path / f"{number}"
        healthy, broken = poison(texts, kind, path)
        assert len(healthy) == 297
        assert len(broken) == 3
        lines = path.read_bytes().split(b"\n")[:-1]
        assert len(lines) == 300
        for text, line in zip(texts, lines, strict=True):
            if text.id in healthy:
                assert json.loads(line) == {"id": text.id, "text": text.text}


def test_a_peer_that_is_not_there_is_named(tmp_path):
    assert "--peers" in find(None).absent
    entrants = find(tmp_path)
    assert "there is no" in entrants.absent
    assert entrants.contestants == [OURS]


def test_what_is_done_again_has_another_mark(tmp_path):
    """What is counted as redone after a kill: a second line of ours, a newer file of the peer."""
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    place = Place(tmp_path, files, tmp_path)
    assert _marks(OURS, place) == _marks(TUNED, place) == {}
    ledger = place.output / ".build" / "parts.jsonl"
    ledger.parent.mkdir(parents=True)
    ledger.write_text('{"part": 1}\n{"part": 0}\n{"part": 1}\n{"par')
    assert _marks(OURS, place) == {"a.jsonl": 1, "b.jsonl": 2}
    logs = place.work / "logs" / "first"
    for name in ("stats/00001.json", "completions/00001"):
        (logs / name).parent.mkdir(parents=True)
        (logs / name).touch()
    assert list(_marks(TUNED, place)) == ["b.jsonl"]


def test_a_peers_step_that_waits_for_others_is_told_without_them(tmp_path):
    place = Place(tmp_path, [], tmp_path)
    for stage, spent in (
        ("first", {"🐿 Jsonl": 1.0, "📞 PII": 2.0, "🎯 MinHash stage 1": 7.5}),
        ("last", {"🐿 Jsonl": 0.5, "🎯 MinHash stage 4": 0.25}),
    ):
        statistics = [{"name": f"X: {n}", "time_stats": {"total": s}} for n, s in spent.items()]
        path = place.work / "logs" / stage / "stats.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(statistics))
    assert of_peer(place) == pytest.approx(
        {"read, write": 1.5, "privacy": 2.0, "signature": 4.5, "find duplicates": 0.25}
    )


def test_the_tree_of_processes_has_this_one():

    child = subprocess.Popen(["sleep", "30"], start_new_session=True)
    try:
        assert child.pid in tree(os.getpid())
    finally:
        child.kill()
        child.wait()


@pytest.mark.slow
def test_broken_documents_lose_nothing_else(tmp_path, monkeypatch):
    """A real build: healthy documents are written, broken ones of every kind in quarantine."""
    monkeypatch.setattr("headrace.benchmarks.build_faults._LONG", 40_000_000)
    texts = list(originals(None, 60 * len(POISONS), 3))
    records = poisoned(find(None), texts, tmp_path / "poisoned", Path(), 60)
    assert [record["fault"] for record in records] == list(POISONS)
    for record in records:
        assert record["of these lost"] == record["neither"] == 0
        assert record["in quarantine"] == record["broken documents"] == 1, record


@pytest.mark.slow
@pytest.mark.extended
def test_a_tiny_run_has_all_figures_and_a_page(table, monkeypatch):
    monkeypatch.delenv("HEADRACE_DATA", raising=False)
    sizes = build.Settings(240, 40, files=8, rounds=1, workers=(1,), poisoned=50)
    found = build.measure(sizes, 1)
    assert set(found.figures) == FIGURES
    assert found.figures["lost_documents"] == 0
    assert all(math.isfinite(value) for value in found.figures.values())
    (kill,) = found.tables["kill -9"]
    assert kill["documents lost"] == kill["documents too many"] == 0
    assert kill["finished files read again"] == 0
    assert kill["bytes read twice"] < kill["bytes in all"]
    assert {one["contestant"] for one in found.tables["absent"]} == {STOCK.name, TUNED.name}
    facts = environment(build.PACKAGES)
    page = table.render(json.loads(json.dumps(report("build", "c", found, facts, 1))))
    for target in table.TARGETS:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {target.what} |")]
        value = found.figures.get(target.figure)
        verdict = UNMEASURED if value is None else "met" if target.met(value) else MISSED
        assert line.endswith(f"| {verdict} |")


@pytest.mark.skipif(not RESULT.exists(), reason="no result yet")
def test_the_page_is_rendered_from_the_result(table):
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert RESULT.with_suffix(".md").read_text(encoding="utf-8") == table.render(result)
    assert result["figures"].keys() >= {
        "speed_vs_datatrove", "speed_vs_datatrove_tuned", "duplicate_precision",
        "duplicate_recall", "redone_after_kill_bytes", "lost_documents",
    }  # fmt: skip
