"""Clusters: those of an independent search, whatever the parts, their order, and the workers."""

import random
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations, pairwise
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.corpus.documents import content_hash, document_id
from headrace.corpus.duplicates import (
    EXACT_RULE,
    NEAR_RULE,
    DuplicatesSettings,
    NearSettings,
    Part,
    Signer,
    find_duplicates,
    read_decisions,
)
from headrace.corpus.duplicates import layout as layout_module
from headrace.corpus.duplicates import pairs as pairs_module
from headrace.corpus.duplicates.bands import bands_and_rows, proposed
from headrace.corpus.duplicates.clusters import joined, star_edges

NEAR = NearSettings(threshold=0.7)
SCHEMA = pa.schema(
    [
        ("outcome", pa.string()), ("id", pa.string()), ("content_hash", pa.string()),
        ("characters", pa.int64()), ("text", pa.large_binary()), ("signature", pa.binary()),
    ]
)  # fmt: skip


def row(source, key, text, signer):
    if text is None:  # something that a rule has left out
        return {"outcome": "filtered", "id": document_id(source, key), "content_hash": "0" * 32}
    signature = signer.signature(text) if signer else None
    return {
        "outcome": "kept", "id": document_id(source, key), "content_hash": content_hash(text),
        "characters": len(text), "text": text.encode("utf-8", "surrogatepass"),
        "signature": None if signature is None else signature.astype("<u4").tobytes(),
    }  # fmt: skip


def write_parts(folder, groups, near=NEAR):
    """One part for each (source, [(key, text), ...])."""
    folder.mkdir(parents=True, exist_ok=True)
    signer = Signer(near) if near else None
    parts = []
    for number, (source, documents) in enumerate(groups):
        rows = [row(source, key, text, signer) for key, text in documents]
        file = folder / f"{number:06d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)
        parts.append(Part(file, source))
    return parts


def search(folder, groups, chosen=None, **options):
    """Clusters as sets of (source, key), the kept one by document, and the rules."""
    chosen = chosen or DuplicatesSettings(near=NEAR)
    parts = write_parts(folder / "parts", groups, chosen.near)
    summary = find_duplicates(parts, folder / "search", chosen, **options)
    return (*decisions(folder / "search", groups), summary)


def decisions(folder, groups):
    names = {document_id(source, key): (source, key) for source, keys in groups for key, _ in keys}
    clusters, kept, rules = {}, {}, {}
    for number, (source, documents) in enumerate(groups):
        for place, decision in read_decisions(folder, number).items():
            own = (source, documents[place][0])
            clusters.setdefault(names[decision.cluster], set()).add(own)
            kept[own] = names[decision.kept]
            rules[own] = decision.rule
    assert all(rules[own] is None for own in set(kept.values()))
    assert all((rules[own] is None) == (kept[own] == own) for own in kept)
    return {frozenset(members) for members in clusters.values()}, kept, rules


def similarities(texts, length=5):
    """Exact Jaccard similarity of all pairs of different texts, by keys; nothing is hashed."""
    sets = {}
    for key, text in texts.items():
        words = regex.findall(r"\w+", text.casefold())
        size = min(length, len(words))
        sets[key] = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
    return {
        (a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in combinations(texts, 2)
    }


def components(values, threshold):
    """Sets of keys that chains of pairs with that similarity join."""
    groups = {key: {key} for pair in values for key in pair}
    for (a, b), value in values.items():
        if value >= threshold and groups[a] is not groups[b]:
            groups[a] |= groups[b]
            for key in groups[b]:
                groups[key] = groups[a]
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def lie_in(sets, larger):
    return all(any(one <= other for other in larger) for one in sets)


def family(rng, size, count, edits):
    """A text of so many words, and copies of it with some words changed."""
    words = [f"w{rng.randrange(10**6)}" for _ in range(size)]
    for _ in range(count):
        copy = list(words)
        for _ in range(rng.choice(edits)):
            copy[rng.randrange(size)] = f"x{rng.randrange(10**6)}"
        yield " ".join(copy)


@pytest.mark.parametrize("verify", ["signature", "text"])
def test_agreement_with_all_pairs_of_exact_jaccard(tmp_path, verify):
    """Copies with a few words changed, similarities from 0.3 to 1."""
    rng = random.Random(11)
    texts = [text for _ in range(25) for text in family(rng, 120, 5, (0, 1, 2, 5, 10))]
    texts += [f"{text}." for text in texts[:10]] + texts[20:30]
    rng.shuffle(texts)
    documents = [(str(number), text) for number, text in enumerate(texts)]
    near = NearSettings(threshold=0.7, permutations=256, verify=verify)
    groups = [("s", documents[i::3]) for i in range(3)]
    clusters, _, _, summary = search(tmp_path, groups, DuplicatesSettings(near=near))
    exact = similarities({("s", key): text for key, text in documents})
    assert any(0.6 < value < 0.8 for value in exact.values())
    margin = 0.09 if verify == "signature" else 0  # three standard errors of an estimate
    surely, perhaps = (components(exact, 0.7 + by) for by in (0.09, -margin))
    assert len(surely) > 20
    assert lie_in(surely, clusters)
    assert lie_in(clusters, perhaps)
    assert summary.candidates >= summary.accepted > 0


RNG = random.Random(3)
POOL = [text for size in (80, 120) for text in family(RNG, size, 4, (1,))]
POOL += [POOL[0].upper(), f"{POOL[5]} !", *family(RNG, 60, 2, (55,)), " \n", "one two", "One, two."]
POOL += ["人人生而自由，在尊严和权利上一律平等。", "人人生而自由，在尊严和权利上一律平等！", None]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_order_and_cut_of_the_parts_do_not_change_clusters(tmp_path, data):
    """Nor do copies, documents that were filtered, and buckets that are taken for large."""
    chosen = data.draw(st.lists(st.sampled_from(range(len(POOL))), max_size=25))
    documents = [(str(place), POOL[number]) for place, number in enumerate(chosen)]
    small = data.draw(st.sampled_from([1, 64]))
    results = []
    for _ in range(2):
        order = data.draw(st.permutations(documents))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4)))
        ends = [0, *cuts, len(order)]
        groups = [("s", order[a:b]) for a, b in pairwise(ends)]
        shutil.rmtree(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pairs_module, "SMALL", small)
            patch.setattr(layout_module, "ENTRIES", data.draw(st.sampled_from([40, 4_000_000])))
            clusters, kept, rules, _ = search(tmp_path, groups)
        first = {key: place for place, (key, _) in enumerate(order)}
        for members in clusters:
            best = min(members, key=lambda member: first[member[1]])
            assert {kept[member] for member in members} == {best}
            for member in members - {best}:
                same = POOL[chosen[int(member[1])]] == POOL[chosen[int(best[1])]]
                assert rules[member] == (EXACT_RULE if same else NEAR_RULE)
        results.append(clusters)
    assert results[0] == results[1]
    spaced = {
        ("s", key): text
        for key, text in documents
        if text and regex.search("[a-z0-9]", text, regex.I)
    }
    expected = components(similarities(spaced), 0.7)
    assert {one for one in results[0] if one <= set(spaced)} == expected


def test_chinese_texts_and_texts_of_white_space():
    """Two of the pool above: near by characters; and white space, a copy of itself alone."""
    signer = Signer(NEAR)
    assert signer.signature(" \n") is None
    a, b = (signer.signature(text) for text in POOL[-3:-1])
    assert 0.5 < (a == b).mean() < 1


def test_exact_only_and_near_only(tmp_path):
    text = "one two three four five six seven eight nine ten eleven twelve"
    groups = [("s", [("a", text), ("b", text), ("c", text.upper()), ("d", "x")])]
    exact = DuplicatesSettings(near=None)
    clusters, _, _, summary = search(tmp_path / "exact", groups, exact)
    assert clusters == {frozenset({("s", "a"), ("s", "b")})}
    assert summary.removed == {EXACT_RULE: 1, NEAR_RULE: 0}
    near = DuplicatesSettings(exact=False, near=NEAR)
    clusters, _, _, summary = search(tmp_path / "near", groups, near)
    assert clusters == {frozenset({("s", "a"), ("s", "b"), ("s", "c")})}
    assert summary.removed == {EXACT_RULE: 0, NEAR_RULE: 2}


@pytest.mark.parametrize(
    ("keep", "best"),
    [
        ("first", ("one", "a")),
        ("longest", ("two", "c")),
        (("three",), ("three", "e")),
        (("none", "two", "three"), ("two", "b")),
    ],
)
def test_the_copy_that_is_kept(tmp_path, keep, best):
    text = " ".join(f"w{number}" for number in range(50))
    groups = [
        ("one", [("a", text)]),
        ("two", [("b", text), ("c", f"{text} !!")]),
        ("three", [("d", "something else"), ("e", f"{text} !")]),
    ]
    chosen = DuplicatesSettings(near=NEAR, keep=keep)
    _, kept, _, summary = search(tmp_path, groups, chosen)
    assert set(kept.values()) == {best}
    assert len(kept) == 4
    assert sum(summary.removed.values()) == 3
    assert summary.clusters == 1


def test_a_text_two_thousand_times_makes_no_square_of_pairs(tmp_path):
    """Copies of one text, and of texts that differ from each other in a word."""
    words = [f"w{number}" for number in range(200)]
    copies = [(str(number), " ".join(words)) for number in range(2_000)]
    variants = [
        (f"v{number}", " ".join([*words[:100], f"x{number}", *words[101:]]))
        for number in range(150)
    ]
    clusters, kept, _, summary = search(tmp_path, [("s", copies), ("t", variants)])
    assert len(clusters) == 1
    assert len(kept) == 2_150
    assert summary.removed == {EXACT_RULE: 1_999, NEAR_RULE: 150}
    assert summary.candidates < 151 * (summary.bands[0] + 1)
    assert summary.unexamined == 0


def test_a_large_bucket_of_strangers_is_given_up_and_counted(tmp_path, monkeypatch):
    """All texts share one band; no two are near."""
    monkeypatch.setattr(pairs_module, "LEADERS", 3)
    rng = np.random.default_rng(1)
    near = NearSettings(permutations=128)
    _, rows = bands_and_rows(near.threshold, 128)
    parts = write_parts(tmp_path, [("s", [(str(n), f"text {n}") for n in range(100)])], near)
    table = pq.read_table(parts[0].file).to_pylist()
    for one in table:
        signature = rng.integers(0, 2**32, 128, dtype=np.uint32)
        signature[:rows] = 7
        one["signature"] = signature.tobytes()
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), parts[0].file)
    summary = find_duplicates(parts, tmp_path / "search", DuplicatesSettings(near=near))
    assert (summary.clusters, summary.unexamined) == (0, 97)
    assert summary.candidates == 99 + 98 + 97


def groups_of_texts():
    rng = random.Random(5)
    texts = [text for _ in range(15) for text in family(rng, 100, 4, (0, 1))]
    rng.shuffle(texts)
    documents = [(str(number), text) for number, text in enumerate(texts)]
    return [("a", documents[:25]), ("b", documents[25:40]), ("b", documents[40:])]


def test_processes_and_many_partitions_give_the_same(tmp_path, monkeypatch):
    groups = groups_of_texts()
    alone = search(tmp_path / "alone", groups)
    monkeypatch.setattr(layout_module, "ENTRIES", 100)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:

        def each(function, numbers):
            numbers = list(numbers)
            results = dict(zip(numbers[::-1], pool.map(function, numbers[::-1]), strict=True))
            return [results[number] for number in numbers]

        spread = search(tmp_path / "spread", groups, each=each)
    assert len(list((tmp_path / "spread/search").glob("pairs-*.npz"))) > 5
    assert spread[:3] == alone[:3]
    assert spread[3].removed == alone[3].removed
    assert all(len(one) == 4 for one in alone[0])


KILLED = """
import os, signal, sys
from pathlib import Path
from headrace.corpus.duplicates import DuplicatesSettings, NearSettings, Part, find_duplicates
folder, stage = Path(sys.argv[1]), int(sys.argv[2])
parts = [Part(file, source) for file, source in zip(sorted((folder / "parts").iterdir()), "abb")]
calls = 0
def each(function, numbers):
    global calls
    calls += 1
    results = []
    for number in numbers:
        results.append(function(number))
        if calls == stage:
            os.kill(os.getpid(), signal.SIGKILL)
    return results
near = NearSettings(threshold=0.7)
find_duplicates(parts, folder / "search", DuplicatesSettings(near=near), each)
"""


def test_a_killed_search_goes_on_and_nothing_is_made_twice(tmp_path):
    groups = groups_of_texts()
    expected = search(tmp_path / "whole", groups)
    write_parts(tmp_path / "parts", groups)
    seen = {}
    for stage in (2, 0):
        done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(stage)], check=False)
        assert done.returncode == (-9 if stage else 0)
        files = {
            file.name: file.stat().st_mtime_ns
            for file in (tmp_path / "search").iterdir()
            if not file.name.startswith("decisions")
        }
        assert seen.items() <= files.items()
        seen = files
    assert decisions(tmp_path / "search", groups) == expected[:3]


def test_another_search_does_not_use_what_is_there(tmp_path):
    groups = groups_of_texts()
    near, *_ = search(tmp_path, groups, DuplicatesSettings(near=NEAR))
    exact, *_ = search(tmp_path, groups, DuplicatesSettings(near=None))
    assert exact
    assert lie_in(exact, near)
    assert exact != near
    changed = [*groups[:2], ("b", [("new", groups[0][1][0][1]), ("other", "x y z")])]
    clusters, *_ = search(tmp_path, changed, DuplicatesSettings(near=None))
    assert any(("b", "new") in one for one in clusters)


def test_a_search_without_documents(tmp_path):
    assert search(tmp_path, [])[3].removed == {EXACT_RULE: 0, NEAR_RULE: 0}
    assert search(tmp_path, [("s", []), ("s", [("a", None)])])[0] == set()


def test_decisions_of_a_search_that_has_not_ended(tmp_path):
    groups = groups_of_texts()
    search(tmp_path, groups)
    (tmp_path / "search" / "copies-decisions-000001.parquet").unlink()
    with pytest.raises(FileNotFoundError):
        read_decisions(tmp_path / "search", 1)


@settings(max_examples=50, deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    cut=st.integers(0, 40),
)
def test_edges_become_stars_around_the_smallest_number(edges, cut):
    array = np.array(edges, np.int64).reshape(-1, 2)
    stars = star_edges(array)
    assert np.array_equal(stars, joined([array[cut:], array[:cut]]))
    root = {number: number for edge in edges for number in edge}
    for _ in root:
        for a, b in edges:
            root[a] = root[b] = min(root[a], root[b])
    expected = sorted((low, high) for high, low in root.items() if low != high)
    assert sorted(map(tuple, stars.tolist())) == expected


@pytest.mark.parametrize("permutations", [64, 128, 256])
@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_bands_miss_few_pairs_and_propose_few_strangers(threshold, permutations):
    bands, rows = bands_and_rows(threshold, permutations)
    assert bands * rows <= permutations
    assert proposed((1 + threshold) / 2, bands, rows) > 0.985
    assert proposed(threshold / 2, bands, rows) < 0.25
