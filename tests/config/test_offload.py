"""Offloading that DeepSpeed would leave out without a word, or fail at."""

import pytest

from headrace.config.checks import check_deepspeed_section
from headrace.config.offload_checks import offload_problems

CPU, NVME = {"device": "cpu"}, {"device": "nvme", "nvme_path": "/local"}


def found(optimizer: str = "AdamW", **zero) -> list[tuple[str, str]]:
    section = {"optimizer": {"type": optimizer, "params": {}}, "zero_optimization": zero}
    return [(problem.where, problem.what) for problem in offload_problems(section)]


@pytest.mark.parametrize(
    "zero",
    [
        {},
        {"stage": 0, "offload_optimizer": {"device": "none"}},
        {"stage": 1, "offload_optimizer": CPU},
        {"stage": 2, "offload_optimizer": CPU},
        {"stage": 3, "offload_optimizer": CPU, "offload_param": CPU},
        {"stage": 3, "offload_optimizer": NVME, "offload_param": NVME},
    ],
)
def test_what_deepspeed_does_is_allowed(zero):
    assert found(**zero) == []


@pytest.mark.parametrize(
    ("zero", "where", "what"),
    [
        ({"offload_optimizer": CPU}, "offload_optimizer", "it needs ZeRO 1"),
        ({"stage": 2, "offload_param": CPU}, "offload_param", "it needs ZeRO 3"),
        (
            {"stage": 3, "offload_param": {"device": "nvme"}},
            "offload_param.nvme_path",
            "NVMe needs a folder",
        ),
        (
            {"stage": 2, "offload_optimizer": NVME},
            "offload_optimizer.device",
            "ZeRO 1 and 2 offload to the CPU alone",
        ),
    ],
)
def test_what_it_does_not_is_refused(zero, where, what):
    assert (f"zero_optimization.{where}", what) in found(**zero)


def test_an_optimizer_of_gpus_cannot_be_offloaded():
    assert found("Lamb", stage=2, offload_optimizer=CPU) == [
        ("zero_optimization.offload_optimizer", "DeepSpeed has a lamb for GPUs alone")
    ]


def test_a_config_is_checked_for_it():
    section = {
        "train_batch_size": 8,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {"stage": 0, "offload_optimizer": CPU},
    }
    assert [problem.what for problem in check_deepspeed_section(section)] == ["it needs ZeRO 1"]


def test_the_keys_of_zero_plus_plus_are_known():
    section = {
        "train_batch_size": 8,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {
            "stage": 3,
            "zero_hpz_partition_size": 4,
            "zero_quantized_weights": True,
            "zero_quantized_gradients": True,
        },
    }
    assert check_deepspeed_section(section) == []
    section["zero_optimization"]["zero_quantised_weights"] = True
    (problem,) = check_deepspeed_section(section)
    assert "zero_quantized_weights" in str(problem.remedy)
