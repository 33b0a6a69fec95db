"""What a step costs by formula and by counting, and the account of the time of steps."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers import AutoModelForTokenClassification as Tagger

from headrace.config.lora import LoraConfig
from headrace.training.flops import attention_pairs, network_flops, peak_of
from headrace.training.lora import add_adapters
from headrace.training.throughput import Meter

WORKERS = Path(__file__).parent / "workers"
SIZES = {
    "vocab_size": 500, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 384, "max_position_embeddings": 300,
}  # fmt: skip
GPT = {"vocab_size": 500, "n_embd": 96, "n_layer": 3, "n_head": 4, "n_positions": 300}
ENCODERS = (
    "bert", "camembert", "data2vec-text", "electra", "ernie", "mpnet", "roberta", "xlm-roberta",
)  # fmt: skip


def make(kind, auto=Tagger, **settings):
    names = {"dim": 96, "n_layers": 3, "n_heads": 4, "hidden_dim": 384, "vocab_size": 500}
    sizes = {"distilbert": names, "gpt2": GPT}.get(kind, SIZES)
    settings = AutoConfig.for_model(kind, **{**sizes, **settings, "attn_implementation": "eager"})
    return auto.from_config(settings)


def counted(network, rows, length):
    """Operations of a forward and backward pass, as PyTorch counts them kernel by kernel."""
    ids = torch.randint(5, 400, (rows, length))
    with FlopCounterMode(display=False) as counter:
        network(input_ids=ids).logits.sum().backward()
    return counter.get_total_flops()


def by_formula(network, rows, length, labels):
    flops = network_flops(network, length)
    return flops.of(tokens=rows * length, labels=labels, pairs=rows * length**2)


@pytest.mark.parametrize("kind", [*ENCODERS, "distilbert"])
def test_the_formula_agrees_with_counting_for_encoders(kind):
    network = make(kind)
    for length in (16, 256):
        expected = counted(network, 2, length)
        assert by_formula(network, 2, length, 2 * length) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_head_of_a_masked_language_model_counts_for_labels(kind):
    network = make(kind, AutoModelForMaskedLM)
    expected = counted(network, 2, 64)
    assert by_formula(network, 2, 64, 2 * 64) == pytest.approx(expected, rel=0.02)
    head = 6 * (96 * 96 + 96 * 500)  # a layer of its own, and the embeddings as output
    assert network_flops(network, 64).per_label == head


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "mistral", "qwen2", "opt"])
def test_the_formula_agrees_with_counting_for_decoders(kind):
    """Counting sees all pairs of tokens, of which a causal network needs half."""
    grouped = {"num_key_value_heads": 2} if kind in {"llama", "mistral", "qwen2"} else {}
    network = make(kind, AutoModelForCausalLM, **grouped)
    flops = network_flops(network, 256)
    tokens, pairs = 2 * 256, 2 * 2 * 256**2
    ours = flops.of(tokens=tokens, labels=tokens, pairs=pairs)
    assert ours == pytest.approx(counted(network, 2, 256), rel=0.01)


@pytest.mark.parametrize(
    ("kind", "auto"), [("bert", Tagger), ("xlm-roberta", Tagger), ("gpt2", AutoModelForCausalLM)]
)
def test_the_formula_agrees_with_the_profiler_of_deepspeed(kind, auto):
    """It counts the forward pass, a third of all, with norms and activations."""
    from deepspeed.profiling.flops_profiler import get_model_profile

    network, length = make(kind, auto), 256
    counted, _, _ = get_model_profile(
        network,
        kwargs={"input_ids": torch.randint(5, 400, (2, length))},
        print_profile=False,
        as_string=False,
    )
    pairs = 2 * length**2 * (2 if kind == "gpt2" else 1)  # it counts what a causal mask hides
    ours = network_flops(network, length).of(tokens=2 * length, labels=2 * length, pairs=pairs)
    assert ours / 3 == pytest.approx(counted, rel=0.05)


def test_what_is_frozen_has_no_backward_pass():
    network = make("bert")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("layer.2." in name or "classifier" in name)
    for length in (16, 256):
        expected = counted(network, 2, length)
        # keys and values of the first layer with gradients read what needs none
        assert by_formula(network, 2, length, 2 * length) == pytest.approx(expected, rel=0.05)


def test_adapters_cost_what_is_counted():
    pytest.importorskip("peft")
    network = make("xlm-roberta")
    add_adapters(network, LoraConfig(rank=8))
    expected = counted(network, 2, 64)
    assert by_formula(network, 2, 64, 2 * 64) == pytest.approx(expected, rel=0.05)


def test_networks_of_other_kinds_have_no_figure():
    assert network_flops(make("deberta-v2"), 64) is None  # disentangled attention
    assert network_flops(make("albert", embedding_size=96), 64) is None  # layers share weights
    assert network_flops(make("mistral", AutoModelForCausalLM, sliding_window=32), 64) is None
    assert network_flops(make("mistral", AutoModelForCausalLM, sliding_window=64), 64) is not None


def test_pairs_of_packed_rows_are_those_within_samples():
    lengths = [[3, 5, 2], [7, 1]]
    segments = torch.zeros((2, 12), dtype=torch.int64)
    mask = torch.zeros((5, 9), dtype=torch.int64)
    for row, own in enumerate(lengths):
        segments[row, : sum(own)] = torch.repeat_interleave(
            torch.arange(1, len(own) + 1), torch.tensor(own)
        )
    alone = [length for own in lengths for length in own]
    for row, length in enumerate(alone):
        mask[row, :length] = 1
    squares = sum(length**2 for length in alone)
    assert attention_pairs({"segments": segments}) == squares
    assert attention_pairs({"input_ids": mask, "attention_mask": mask}) == squares
    assert attention_pairs({"input_ids": mask}) == 5 * 81


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("Tesla V100-SXM2-32GB", "fp16", 125e12),
        ("Tesla V100-SXM2-32GB", "bf16", None),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H200", "bf16", 989e12),
        ("NVIDIA H200", "fp32", None),
        ("NVIDIA GeForce RTX 4090", "bf16", None),
    ],
)
def test_a_peak_is_known_or_there_is_none(name, precision, peak):
    assert peak_of(name, precision) == peak


class Clock:
    """Stands in for the time of the host, so that every figure can be worked out."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("throughput", "stopwatch"):
        monkeypatch.setattr(f"headrace.training.{module}.time", clock)
    return clock


def batches(clock, waits):
    for wait in waits:
        clock.pass_(wait)
        yield wait


def step(meter, clock, *, compute=0.3, other=0.1):
    with meter.computing():
        clock.pass_(compute)
    clock.pass_(other)
    return meter.end_step(samples=4, tokens=60, labels=8, pairs=900)


def test_the_time_of_a_step_is_divided_into_waiting_computing_and_the_rest(clock):
    flops = SimpleNamespace(of=lambda **sizes: 1e3 * sizes["tokens"] + sizes["pairs"])
    meter = Meter(flops=flops, peak_flops=1e6)
    seconds = []
    for number, _ in enumerate(meter.each(batches(clock, [0.1, 0.0, 0.6]))):
        seconds.append(step(meter, clock))
        with meter.paused():  # a validation
            clock.pass_(50.0)
        if number == 0:
            clock.pass_(0.5)  # logging: a part of the next step
    assert seconds == pytest.approx([0.5, 0.9, 1.0])
    window = meter.take_window()
    assert window["tokens_per_s"] == pytest.approx(180 / 2.4)
    assert window["samples_per_s"] == pytest.approx(12 / 2.4)
    assert window["data_wait"] == pytest.approx(0.7)
    assert window["data_wait_share"] == pytest.approx(0.7 / 2.4)
    assert window["overhead_share"] == pytest.approx(0.8 / 2.4)
    assert window["step_seconds_p50"] == pytest.approx(0.9)
    assert window["step_seconds_max"] == pytest.approx(1.0)
    assert window["flops_per_token"] == pytest.approx(1015)
    assert window["mfu"] == pytest.approx(180 * 1015 / 2.4 / 1e6)


def test_a_window_has_the_steps_since_the_last_and_the_summary_has_all(clock):
    meter = Meter()
    for number, _ in enumerate(meter.each(batches(clock, [0.0] * 6))):
        step(meter, clock, compute=1.0 if number < 3 else 3.0, other=0.0)
        if number in {2, 5}:
            window = meter.take_window()
    assert window["step_seconds_p50"] == pytest.approx(3.0)
    assert window["tokens_per_s"] == pytest.approx(20.0)
    summary = meter.summary()
    assert summary["tokens_per_s"] == pytest.approx(30.0)
    assert summary["step_seconds_p50"] == pytest.approx(1.0, rel=0.006)
    assert summary["step_seconds_p95"] == pytest.approx(3.0, rel=0.006)
    assert summary["mfu"] is None
    assert summary["flops_per_token"] is None


def test_a_summary_goes_on_behind_a_checkpoint(clock):
    whole, first, second = Meter(), Meter(), Meter()
    draw = np.random.default_rng(3)
    times = draw.lognormal(-1, 0.7, 200)
    for meter, part in ((whole, times), (first, times[:120]), (second, times[120:])):
        if meter is second:
            second.load(json.loads(json.dumps(first.state())))
        for _, seconds in zip(meter.each(batches(clock, [0.01] * len(part))), part, strict=True):
            step(meter, clock, compute=seconds, other=0.02)
        meter.take_window()
    one, other = whole.summary(), second.summary()
    for name in ("tokens_per_s", "overhead_share", "step_seconds_p95", "step_seconds_max"):
        assert one[name] == pytest.approx(other[name])
    p50, p95 = np.percentile(times + 0.03, [50, 95], method="inverted_cdf")
    assert one["step_seconds_p50"] == pytest.approx(p50, rel=0.006)
    assert one["step_seconds_p95"] == pytest.approx(p95, rel=0.006)


def test_ranks_report_the_longest_wait_and_the_most_memory(launcher, tmp_path):
    done = launcher.run_ranks(WORKERS / "metered_ranks.py", str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["window"]["data_wait"] == second["window"]["data_wait"] == second["waited"]
    assert second["waited"] >= 0.29
    assert first["waited"] < second["waited"]
    assert first["summary"]["data_wait"] == second["waited"]
    assert first["window"]["memory_resident"] == second["window"]["memory_resident"]
    assert first["window"]["memory_resident"] >= second["resident"]
    assert second["resident"] > first["resident"] + 100_000_000  # although it gave that back


def test_waiting_is_measured_on_a_real_clock():
    meter = Meter()

    def slow():
        for _ in range(3):
            time.sleep(0.02)
            yield None

    for _ in meter.each(slow()):
        meter.end_step(samples=1, tokens=1, labels=1, pairs=1)
    assert 0.06 <= meter.take_window()["data_wait"] <= meter.whole.total
