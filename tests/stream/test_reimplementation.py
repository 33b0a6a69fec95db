"""docs/stream.md is exact: an implementation of the page alone gives the library's order."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.stream.batching import BatchPlan
from headrace.stream.feistel import Permutation, derive_key, derive_keys
from headrace.stream.grouping import PackPlan, TokenBudgetPlan
from headrace.stream.phases import Phase
from headrace.stream.plan import Locations, Source, StagePlan

PAGE = Path(__file__).parents[2] / "docs" / "stream.md"
PLAIN = Path(__file__).with_name("plain_order.py")

Triples = Callable[[Locations], list[tuple[int, int, int]]]


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_order", PLAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def vectors() -> dict:
    (text,) = re.findall(r"```json\n(\{\"key\".*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return json.loads(text)


def test_it_is_independent() -> None:
    imports = [
        node for node in ast.walk(ast.parse(PLAIN.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]  # fmt: skip
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in imports if isinstance(node, ast.ImportFrom)}
    assert names == {"__future__", "fractions", "hashlib", "heapq", "json", "math"}


@st.composite
def stages(draw: st.DrawFn) -> dict:
    """Sources, phases and limits, as the page names them."""
    names = st.sampled_from(["en", "hi", "zh", "pt-BR"])
    shards = st.lists(st.integers(0, 9), min_size=1, max_size=7).filter(any)
    sources = draw(st.lists(st.tuples(names, shards), min_size=1, max_size=4))
    count = len(sources)
    share = st.sampled_from([None, 0.35, 0.5, 0.9])
    starts = draw(st.lists(st.integers(1, 90), max_size=2, unique=True))
    phases = []
    for start in [0, *sorted(starts)]:
        phase: dict = {"start": start}
        if draw(st.booleans()):
            number = st.integers(0, 9) | st.sampled_from([0.25, 3.5])
            weights = st.lists(number, min_size=count, max_size=count)
            phase["weights"] = draw(weights.filter(any if starts else all))
        else:
            phase["temperature"] = draw(st.sampled_from([0, 0.3, 0.7, 1]))
            if count > 2 and draw(st.booleans()):
                phase["max_shares"] = draw(st.lists(share, min_size=count, max_size=count))
                phase["min_shares"] = draw(
                    st.lists(st.sampled_from([None, 0, 0.1, 0.2]), min_size=count, max_size=count)
                )
        phases.append(phase)
    limit = st.sampled_from([None, 1, 1.5, 2.2])
    limits = draw(st.none() | st.lists(limit, min_size=count, max_size=count))
    if limits is not None:
        assume(all(x is None or x * sum(s) >= 1 for x, (_, s) in zip(limits, sources, strict=True)))
    return {
        "sources": sources,
        "seed": draw(st.integers(0, 2**63 - 1)),
        "stage": draw(st.sampled_from(["multilingual", "mono/hi", "東京"])),
        "phases": phases,
        "limits": limits,
        "block": draw(st.sampled_from([1, 5, 16, 1024])),
        "window": draw(st.integers(1, 4)),
    }


def library(stage: dict) -> StagePlan:
    sources = [
        Source(name, f"memory://{number}", tuple(sizes), "f")
        for number, (name, sizes) in enumerate(stage["sources"])
    ]
    first, *later = (
        {name: value for name, value in phase.items() if name != "start"}
        for phase in stage["phases"]
    )
    starts = [phase["start"] for phase in stage["phases"]]
    return StagePlan(
        sources,
        seed=stage["seed"],
        stage=stage["stage"],
        phases=[Phase(start, **each) for start, each in zip(starts[1:], later, strict=True)],
        max_epochs=stage["limits"],
        block=stage["block"],
        shard_window=stage["window"],
        **first,
    )


def positions_of(plan: StagePlan, epoch: int) -> np.ndarray:
    left = plan.samples_per_epoch
    if plan.total_positions is not None:
        left = min(max(0, plan.total_positions - epoch * left), left)
    return np.arange(left)


def random_lengths(
    stage: dict, seed: int, *, below: int
) -> tuple[list[list[np.ndarray]], Callable[[tuple[int, int, int]], int]]:
    """Lengths of all samples as the library wants them, and as a function of the place."""
    random = np.random.default_rng(seed)
    lengths = [
        [random.integers(1, below, size).astype(np.int32) for size in sizes]
        for _, sizes in stage["sources"]
    ]

    def length_of(place: tuple[int, int, int]) -> int:
        source, shard, sample = place
        return int(lengths[source][shard][sample])

    return lengths, length_of


@settings(max_examples=60)
@given(stages())
def test_random_stages_have_the_same_order(
    plain: ModuleType, triples: Triples, stage: dict
) -> None:
    drawn = [phase.get("weights") or [1] * len(stage["sources"]) for phase in stage["phases"]]
    assume(all(any(column) for column in zip(*drawn, strict=True)))
    plan, order = library(stage), plain.Order(**stage)
    for epoch in range(3):
        positions = positions_of(plan, epoch)
        found = triples(plan.locate(epoch, positions))
        assert [order.find(epoch, position) for position in positions.tolist()] == found
    assert order.end == (plan.total_positions if order.end is not None else None)


@settings(max_examples=20)
@given(stages(), st.integers(1, 7), st.integers(1, 4), st.integers(0, 99))
def test_random_stages_have_the_same_batches(
    plain: ModuleType,
    triples: Triples,
    stage: dict,
    batch_size: int,
    window_batches: int,
    seed: int,
) -> None:
    stage = {**stage, "phases": [{"start": 0}]}
    plan, order = library(stage), plain.Order(**stage)
    lengths, length_of = random_lengths(stage, seed, below=9)

    batches = BatchPlan(plan, lengths, batch_size=batch_size, window_batches=window_batches)
    expected = order.batches(0, batch_size, window_batches, length_of)
    found = [triples(batches.batch(step)) for step in range(batches.steps_before(1))]
    assert found == expected


@pytest.mark.parametrize("kind", ["tokens", "packed"])
@settings(max_examples=15)
@given(
    stage=stages(),
    tokens=st.integers(12, 60),
    batch_size=st.integers(1, 4),
    window_batches=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_random_stages_have_the_same_batches_by_length(
    plain: ModuleType,
    triples: Triples,
    kind: str,
    stage: dict,
    tokens: int,
    batch_size: int,
    window_batches: int,
    seed: int,
) -> None:
    stage = {**stage, "phases": [{"start": 0}]}
    plan, order = library(stage), plain.Order(**stage)
    lengths, length_of = random_lengths(stage, seed, below=13)

    flat = [length for source in lengths for shard in source for length in shard.tolist()]
    mean = -(-sum(flat) // len(flat))
    if kind == "tokens":
        batches = TokenBudgetPlan(
            plan, lengths, tokens_per_batch=tokens, window_batches=window_batches
        )
        expected = order.groups(0, tokens, 1, window_batches, length_of, mean, plain.token_groups)
        found = [triples(batches.batch(step)) for step in range(batches.steps_before(1))]
        assert found == expected
        return
    packs = PackPlan(
        plan, lengths, pack_length=tokens, batch_size=batch_size, window_batches=window_batches
    )
    rows = order.groups(0, tokens, batch_size, window_batches, length_of, mean, plain.packs)
    expected = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    found = []
    for step in range(packs.steps_before(1)):
        batch = packs.batch(step)
        edges = batch.starts.tolist()
        places = triples(batch.samples)
        found.append([places[a:b] for a, b in pairwise(edges)])
    assert found == expected


@given(st.integers(1, 10**15), st.integers(0, 2**64 - 1), st.data())
def test_permutations_are_the_same_at_any_size(
    plain: ModuleType, size: int, key: int, data: st.DataObject
) -> None:
    value = data.draw(st.integers(0, size - 1))
    assert plain.permuted(value, size, key) == Permutation(size, key)(np.array([value]))[0]


def test_the_vectors_of_the_page(plain: ModuleType, vectors: dict, triples: Triples) -> None:
    for each in vectors["key"]:
        assert plain.key_of(*each["parts"]) == int(each["is"]) == derive_key(*each["parts"])
    for each in vectors["numbered"]:
        key = int(each["key"])
        assert plain.numbered(key, each["number"]) == int(each["is"])
        assert derive_keys(key, np.array([each["number"]]))[0] == int(each["is"])
    for each in vectors["permutation"]:
        size, key = each["size"], int(each["key"])
        assert [plain.permuted(value, size, key) for value in each["of"]] == each["is"]
        assert Permutation(size, key)(np.array(each["of"])).tolist() == each["is"]
    for each in vectors["counts"]:
        assert plain.tree_counts(each["weights"], each["position"]) == each["is"]
    stage = dict(vectors["stage"])
    expected, segments = stage.pop("is"), stage.pop("segments")
    plan, order = library(stage), plain.Order(**stage)
    assert [[s.start, list(s.weights)] for s in plan.stage_mixture.segments] == segments
    for epoch, position, *place in expected:
        assert order.find(epoch, position) == tuple(place)
        assert triples(plan.locate(epoch, np.array([position]))) == [tuple(place)]
