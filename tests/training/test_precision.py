"""The choice of precision.  The GPU's answers are stood in for: there is none here."""

import pytest
import torch

from headrace.errors import ConfigError
from headrace.training.precision import choose_precision

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


def test_fp16_needs_zero(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(ConfigError, match="not multiplied the loss by") as caught:
        choose_precision("auto", {}, GPU)
    assert [problem.where for problem in caught.value.problems] == ["zero_optimization.stage"]
