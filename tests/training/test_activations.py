"""Gradient checkpointing: less is kept, the losses stay; and what is said about attention."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForTokenClassification

from headrace.config import load_run_config
from headrace.errors import UserError
from headrace.training.attention import attention_facts
from headrace.training.data import open_data
from headrace.training.model import build_model
from headrace.training.run import check_run, train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

KEY = "headrace.model.gradient_checkpointing"


def bytes_kept(network, length=40):
    """Bytes of the tensors that a forward pass keeps for the way back, weights apart."""
    sizes = {}
    weights = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    ids = torch.randint(5, 1000, (8, length), generator=torch.Generator().manual_seed(1))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(input_ids=ids).logits.float().square().mean()
    kept = sum(sizes.values())
    loss.backward()
    return kept, loss.detach()


def test_less_is_kept_and_the_gradients_are_the_same(small_corpus, tmp_path):
    kept, losses, gradients = [], [], []
    for checkpointing in (False, True):
        path = small_corpus.write_config(
            tmp_path / "run.json", tmp_path / "run",
            **{KEY: checkpointing, "headrace.model.config.num_hidden_layers": 6,
               "headrace.model.dropout": 0.1},
        )  # fmt: skip
        config = load_run_config(path)
        opened = open_data(config)
        network = build_model(config.headrace.model, opened.task, opened.tokenizer, seed=1).train()
        torch.manual_seed(5)  # dropout is drawn again in the same way
        bytes_, loss = bytes_kept(network)
        kept.append(bytes_)
        losses.append(loss)
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert kept[1] < 0.5 * kept[0]
    assert torch.equal(*losses)
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("stage", [0, 3])
def test_a_run_has_the_same_losses_with_it(small_corpus, world, read_losses, tmp_path, stage):
    """At stage 3 weights are gathered again for what is computed again."""
    found = []
    for checkpointing in (False, True):
        path = small_corpus.write_config(
            tmp_path / "run.json", tmp_path / f"run-{checkpointing}",
            **{KEY: checkpointing, "zero_optimization.stage": stage,
               "headrace.stages": [{"name": "a", "max_steps": 3, "languages": ["zh"]}]},
        )  # fmt: skip
        config = load_run_config(path)
        train_in_group(config, expand_stages(config), world, StopFlag())
        found.append(read_losses(config.output))
        (start,) = (
            record
            for line in (config.output / "metrics.jsonl").read_text().splitlines()
            if (record := json.loads(line))["kind"] == "start"
        )
        assert start["attention"] == "sdpa"
        assert "the choice of transformers" in start["attention_reason"]
    assert len(found[0]) == 4
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_network_that_cannot_is_refused_by_name(small_corpus, tmp_path, monkeypatch):
    from transformers import BertForTokenClassification

    monkeypatch.setattr(BertForTokenClassification, "supports_gradient_checkpointing", False)
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **{KEY: True})
    config = load_run_config(path)
    with pytest.raises(UserError, match="BertForTokenClassification cannot compute"):
        check_run(config, expand_stages(config), 1)


def network_of(kind, attention=None):
    settings = AutoConfig.for_model(
        kind, vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    given = {"attn_implementation": attention} if attention else {}
    return AutoModelForTokenClassification.from_config(settings, **given)


@pytest.mark.parametrize(
    ("kind", "asked_for", "name", "words"),
    [
        ("bert", None, "sdpa", "the choice of transformers; PyTorch's kernel for the CPU"),
        ("bert", "eager", "eager", "headrace.model.attention asks for it"),
        ("deberta-v2", None, "eager", "DebertaV2ForTokenClassification has no other"),
    ],
)
def test_the_attention_and_its_reason(kind, asked_for, name, words):
    facts = attention_facts(
        network_of(kind, asked_for), torch.device("cpu"), "fp32",
        asked_for=asked_for, is_packed=False,
    )  # fmt: skip
    assert facts["attention"] == name
    assert words in facts["attention_reason"]


@pytest.mark.parametrize(
    ("capability", "precision", "is_packed", "words"),
    [
        ((7, 0), "fp16", False, "this is 7.0, so PyTorch takes its memory-efficient kernel"),
        ((8, 0), "fp32", False, "fp16 and bf16 alone"),
        ((9, 0), "bf16", True, "no mask of packed rows"),
        ((9, 0), "bf16", False, "the flash kernel for rows without padding"),
    ],
)
def test_kernels_of_gpus(monkeypatch, capability, precision, is_packed, words):
    """What is said of devices that are not here."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    device = SimpleNamespace(type="cuda")
    facts = attention_facts(
        network_of("bert"), device, precision, asked_for=None, is_packed=is_packed
    )
    assert words in facts["attention_reason"]
