"""The parts of a rank's memory: what their formulas say, and what ZeRO and offloading change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.planning.activations import MicroBatch, Stretch
from headrace.planning.memory import ACTIVATIONS, memory_of_rank
from headrace.planning.setup import Setup, Sizes, setup_of

SIZES = Sizes(((50_000_000, 7_000_000, 7_000_000), (4096, 1024, 1024)), frozen=3_000_000)
BATCH = MicroBatch(
    rows=4,
    length=128,
    stretches=(
        Stretch(90_000_000, 0),
        Stretch(60_000_000, 7_000_000),
        Stretch(9_000_000, SIZES.trained),
    ),
    kept=80_000_000,
    before_last_weight=70_000_000,
    left=2_000_000,
)
BASE = Setup(kind="cuda", precision="bf16", stage=0, ranks=8)

setups = st.builds(
    Setup,
    kind=st.sampled_from(["cpu", "cuda"]),
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    stage=st.integers(0, 3),
    ranks=st.sampled_from([1, 2, 4, 16, 128]),
    moments=st.integers(0, 2),
    fused=st.booleans(),
    accumulation=st.sampled_from([1, 4]),
    overlap_comm=st.booleans(),
    reduce_bucket_size=st.sampled_from([1_000_000, 500_000_000]),
    prefetch_bucket_size=st.sampled_from([1_000_000, 50_000_000]),
)


@given(setups)
def test_formulas_give_the_bytes(setup):
    names = {
        "N": SIZES.all, "T": SIZES.trained, "T1": SIZES.largest_group, "L": SIZES.largest,
        "R": setup.ranks, "reduce_bucket_size": setup.reduce_bucket_size,
        "prefetch_bucket_size": setup.prefetch_bucket_size, "min": min, "max": max,
    }  # fmt: skip
    if setup.kind == "cpu":  # memory that is not written to is not taken
        names["reduce_bucket_size"] = min(setup.reduce_bucket_size, SIZES.trained)
    said = {"finished gradients", "...", "weights of fewer", "gathered", "numbers"}
    checked = 0
    for moment in memory_of_rank(SIZES, setup, BATCH).moments:
        for part in moment.parts:
            if part.name == ACTIVATIONS or any(word in part.formula for word in said):
                continue
            value = eval(part.formula.replace(" x ", " * "), {"__builtins__": {}}, names)
            assert part.bytes == pytest.approx(value, abs=2), part
            checked += 1
    assert checked >= 4


@given(setups)
def test_more_ranks_never_need_more_than_two(setup):
    two, more = (
        memory_of_rank(SIZES, replace(setup, ranks=ranks), BATCH).peak.bytes for ranks in (2, 64)
    )
    assert more <= two + 1


@given(setups)
def test_the_peak_has_its_parts(setup):
    memory = memory_of_rank(SIZES, setup, BATCH)
    assert memory.peak.bytes == sum(part.bytes for part in memory.peak.parts)
    assert memory.states <= memory.peak.bytes
    assert memory.activations == 90_000_000
    assert memory.peak.bytes <= memory.states + memory.activations
    assert all(part.bytes > 0 for moment in memory.moments for part in moment.parts)


def states_of(setup: Setup) -> dict[str, int]:
    parts = memory_of_rank(SIZES, setup, BATCH).moments[1].parts
    return {part.name: part.bytes for part in parts}


def test_states_are_those_of_the_zero_paper():
    # 2 bytes of weights, and 4 + 8 of fp32 weights and Adam's moments, which 1 divides by R
    plain = states_of(BASE)
    assert plain["weights"] == 2 * SIZES.all
    assert plain["weights of the optimizer"] + plain["optimizer states"] == 12 * SIZES.trained
    for stage in (1, 2):
        divided = states_of(replace(BASE, stage=stage))
        assert divided["weights"] == 2 * SIZES.all
        both = divided["weights of the optimizer"] + divided["optimizer states"]
        assert both == 12 * SIZES.trained / 8
    third = states_of(replace(BASE, stage=3))
    assert third["share of the weights"] == 2 * SIZES.all / 8
    assert third["own gradients"] == 2 * SIZES.trained / 8


def test_offloading_moves_the_optimizer_to_the_node():
    for stage in (1, 2, 3):
        setup = replace(BASE, stage=stage)
        here = memory_of_rank(SIZES, setup, BATCH)
        there = memory_of_rank(SIZES, replace(setup, offload_optimizer="cpu"), BATCH)
        assert here.host == ()
        assert there.peak.bytes < here.peak.bytes
        assert there.host_bytes >= (4 + 8 + 4) * SIZES.trained / 8
        names = {part.name for moment in there.moments for part in moment.parts}
        assert "optimizer states" not in names


def test_zero_plus_plus_keeps_a_second_share_within_the_node():
    third = replace(BASE, stage=3)
    plain = memory_of_rank(SIZES, third, BATCH).peak.bytes
    second = memory_of_rank(SIZES, replace(third, second_share_ranks=4), BATCH).peak.bytes
    assert second - plain == 2 * SIZES.all / 4


def test_nvme_takes_the_states():
    setup = replace(BASE, stage=3, offload_optimizer="nvme", offload_param="nvme")
    memory = memory_of_rank(SIZES, setup, BATCH)
    assert [part.bytes for part in memory.disk] == [
        12 * SIZES.trained / 8,
        2 * SIZES.all / 8,
    ]


def test_gradients_stay_over_micro_batches():
    for stage in (0, 1):
        one, four = (
            memory_of_rank(SIZES, replace(BASE, stage=stage, accumulation=count), BATCH).peak.bytes
            for count in (1, 4)
        )
        assert four >= one
        assert one < 2 * SIZES.all + 12 * SIZES.trained / (8 if stage else 1) + 4e9


def test_the_buckets_of_a_gpu_are_taken_whole():
    small, large = (
        memory_of_rank(SIZES, replace(BASE, stage=2, reduce_bucket_size=size), BATCH).peak.bytes
        for size in (5_000_000, 500_000_000)
    )
    assert large - small > 0.7e9


SECTION = {"optimizer": {"type": "AdamW", "params": {}}, "zero_optimization": {"stage": 3}}


def read(**changes) -> Setup:
    section = {**SECTION, **changes}
    return setup_of(section, kind="cuda", precision="bf16", ranks=4, accumulation=2)


def test_settings_are_those_of_the_config():
    zero = {
        "stage": 3, "stage3_prefetch_bucket_size": 2e6, "stage3_max_live_parameters": 3e6,
        "reduce_bucket_size": 4e6, "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "nvme", "nvme_path": "/nvme"},
    }  # fmt: skip
    setup = read(zero_optimization=zero)
    assert (setup.prefetch_bucket_size, setup.max_live_parameters) == (2_000_000, 3_000_000)
    assert setup.reduce_bucket_size == 4_000_000
    assert (setup.offload_optimizer, setup.offload_param) == ("cpu", "nvme")
    assert setup.overlap_comm
    assert read(zero_optimization={"stage": 2}).overlap_comm is False


@pytest.mark.parametrize(
    ("optimizer", "moments", "fused"),
    [
        ({"type": "AdamW"}, 2, True),
        ({"type": "AdamW", "params": {"torch_adam": True}}, 2, False),
        ({"type": "Lion"}, 1, True),
        ({"type": "SGD"}, 0, False),
        ({"type": "SGD", "params": {"momentum": 0.9}}, 1, False),
        ({"type": "Adagrad"}, 1, False),
    ],
)
def test_optimizers_differ_in_what_they_keep(optimizer, moments, fused):
    setup = read(optimizer=optimizer)
    assert (setup.moments, setup.fused) == (moments, fused)
