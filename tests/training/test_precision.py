"""The choice of precision.  The GPU's answers are stood in for: there is none here."""

import pytest
import torch

from headrace.errors import ConfigError
from headrace.training.distributed import World
from headrace.training.precision import choose_precision, least_capability

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_the_config_is_followed():
    assert choose_precision("config", {}, CPU).name == "fp32"
    assert choose_precision("config", {"bf16": {"enabled": True}}, CPU).name == "bf16"
    assert choose_precision("config", {"fp16": {"enabled": False}}, CPU).name == "fp32"


def test_auto_on_a_cpu_is_fp32_and_says_why():
    chosen = choose_precision("auto", {"bf16": {"enabled": True}}, CPU)
    assert chosen.name == "fp32"
    assert "cpu" in chosen.reason
    assert chosen.sections["bf16"] == {"enabled": False}


@pytest.mark.parametrize(
    ("capability", "name"), [((7, 0), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_auto_asks_for_native_bf16(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    # a V100 emulates bf16 and says that it supports it: this answer must not be asked for
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    section = {"fp16": {"loss_scale_window": 100}, "zero_optimization": {"stage": 1}}
    chosen = choose_precision("auto", section, GPU)
    assert chosen.name == name
    assert f"{capability[0]}.{capability[1]}" in chosen.reason
    if name == "fp16":
        assert chosen.sections["fp16"]["initial_scale_power"] == 12
        assert chosen.sections["fp16"]["loss_scale_window"] == 100


def test_settings_of_bigscience_hold_where_the_config_leaves_them_open(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    section = {"fp16": {"enabled": False, "hysteresis": 4}, "zero_optimization": {"stage": 2}}
    assert choose_precision("auto", section, GPU).sections["fp16"] == {
        "enabled": True,
        "initial_scale_power": 12,
        "loss_scale_window": 500,
        "hysteresis": 4,
        "min_loss_scale": 1,
    }


def test_one_old_gpu_decides_for_all_ranks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    section = {"zero_optimization": {"stage": 1}}
    assert choose_precision("auto", section, GPU).name == "bf16"
    chosen = choose_precision("auto", section, GPU, (7, 0))
    assert chosen.name == "fp16"
    assert "7.0" in chosen.reason


def test_the_ranks_of_a_cpu_have_no_capability():
    assert least_capability(World(0, 1, CPU)) is None


def test_emulated_bf16_is_refused(monkeypatch):
    section = {"bf16": {"enabled": True}, "zero_optimization": {"stage": 1}}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert choose_precision("config", section, GPU).name == "bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ConfigError, match="emulate it slowly") as caught:
        choose_precision("config", section, GPU)
    assert [problem.where for problem in caught.value.problems] == ["bf16.enabled"]


def test_fp16_needs_zero(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(ConfigError, match="not multiplied the loss by") as caught:
        choose_precision("auto", {}, GPU)
    assert [problem.where for problem in caught.value.problems] == ["zero_optimization.stage"]
