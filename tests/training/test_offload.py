"""Runs that offload their optimizer, and nodes that cannot."""

import json
import subprocess
import sys

import pytest

from headrace.errors import ConfigError
from headrace.training.offload import check_offload

ADAM = {"type": "AdamW", "params": {"lr": 1e-3}}
SHORT = {
    "headrace.stages": [{"name": "only", "max_steps": 4}],
    "gradient_accumulation_steps": 2,
}


def offloading(device: str = "cpu", stage: int = 2, **settings) -> dict:
    return {"stage": stage, "offload_optimizer": {"device": device, **settings}}


def losses(corpus, folder, **changes) -> list[float]:
    """Of a short run in a process of its own."""
    folder.mkdir()
    config = corpus.write_config(folder / "run.json", folder / "run", **{**SHORT, **changes})
    command = [sys.executable, "-m", "headrace.cli", "train", "--ds_config", str(config)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if line["kind"] == "train"]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("torch_adam", [False, True])
def test_an_offloaded_optimizer_learns_the_same(small_corpus, tmp_path, torch_adam):
    optimizer = {**ADAM, "params": {**ADAM["params"], "torch_adam": torch_adam}}
    plain = losses(small_corpus, tmp_path / "plain", optimizer=ADAM)
    for stage in (1, 2, 3):
        zero = offloading(stage=stage)
        own = {"optimizer": optimizer, "zero_optimization": zero}
        assert len(plain) == 4
        found = losses(small_corpus, tmp_path / f"zero-{stage}", **own)
        assert found == pytest.approx(plain, rel=1e-3)


def test_nvme_needs_libaio(monkeypatch):
    from deepspeed.ops.op_builder import AsyncIOBuilder

    monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda self, verbose=False: False)
    section = {"optimizer": ADAM, "zero_optimization": offloading("nvme", 3, nvme_path="/local")}
    with pytest.raises(ConfigError, match="Install libaio") as caught:
        check_offload(section)
    assert caught.value.problems[0].where == "zero_optimization.offload_optimizer.device"


def test_adam_of_the_cpu_needs_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    section = {"optimizer": ADAM, "zero_optimization": offloading()}
    with pytest.raises(ConfigError, match=r"Install a C\+\+ compiler"):
        check_offload(section)
    own = {**ADAM, "params": {"torch_adam": True}}
    check_offload({"optimizer": own, "zero_optimization": offloading()})
    check_offload({"optimizer": ADAM, "zero_optimization": {"stage": 2}})
