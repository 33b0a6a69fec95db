"""Traces of micro-batches against real passes, and against a published formula."""

from __future__ import annotations

import pytest
import torch
from networks import network_of, task_of
from transformers import AutoConfig, AutoModelForMaskedLM

from headrace.planning.activations import ActivationModel, activation_model, trace
from headrace.planning.workload import activations_of_task, batch_without_contents
from headrace.tasks.multiple_choice import MultipleChoice


def bert(layers: int = 2, attention: str = "eager", **changes) -> torch.nn.Module:
    settings = {
        "hidden_size": 96, "num_hidden_layers": layers, "num_attention_heads": 4,
        "intermediate_size": 384, "vocab_size": 500, "max_position_embeddings": 128, **changes,
    }  # fmt: skip
    config = AutoConfig.for_model("bert", **settings)
    return AutoModelForMaskedLM.from_config(config, attn_implementation=attention)


def loss_with(network: torch.nn.Module, length: int):
    """Computes the mean of the logits, which keeps nothing itself."""

    def loss(rows: int) -> tuple[torch.Tensor, ...]:
        device = next(network.parameters()).device
        ids = torch.zeros((rows, length), dtype=torch.int64, device=device)
        return (network(input_ids=ids).logits.sum(),)

    return loss


def traced(length: int = 64, kind: str = "cpu", dtype=torch.float32, **changes) -> ActivationModel:
    with torch.device("meta"):
        network = bert(**changes).to(dtype)
    return activation_model(network, loss_with(network, length), length, kind)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_what_is_kept_is_what_autograd_saves_on_the_cpu(attention, dropout):
    changes = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    network = bert(attention=attention, **changes).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (loss,) = loss_with(network, 64)(4)
    kept = traced(attention=attention, **changes)(4).kept
    assert loss.requires_grad
    assert kept == pytest.approx(sum(saved.values()), rel=0.03)


def test_a_layer_keeps_what_the_formula_of_korthikanti_et_al_says():
    rows, length, hidden, heads = 4, 128, 96, 4
    three, four = (
        traced(length, "cuda", torch.bfloat16, layers=layers)(rows).kept for layers in (3, 4)
    )
    # "Reducing Activation Recomputation in Large Transformer Models", 2022, equation 1
    formula = length * rows * hidden * (34 + 5 * heads * length / hidden)
    assert four - three == pytest.approx(formula, rel=0.05)


def test_fused_attention_keeps_no_scores():
    def per_token(attention: str, length: int) -> float:
        return traced(length, "cuda", attention=attention)(8).kept / (8 * length)

    assert per_token("eager", 128) > 1.3 * per_token("eager", 32)
    assert per_token("sdpa", 128) == pytest.approx(per_token("sdpa", 32), rel=0.02)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_other_micro_batches_lie_on_the_line(kind):
    with torch.device("meta"):
        network = bert()
    loss = loss_with(network, 64)
    model = activation_model(network, loss, 64, kind)
    for rows in (1, 7, 32):
        real = trace(network, loss, rows, 64, kind)
        assert model(rows).most == pytest.approx(real.most, rel=0.02)
        assert model(rows).kept == pytest.approx(real.kept, rel=0.02)


def test_every_gradient_is_finished_at_the_end():
    with torch.device("meta"):
        network = bert()
    batch = activation_model(network, loss_with(network, 32), 32, "cpu")(3)
    sizes = [parameter.numel() for parameter in network.parameters()]
    assert batch.stretches[-1].gradients == sum(sizes)
    assert batch.stretches[0].gradients == 0
    assert batch.left < batch.kept
    assert all(parameter.grad is None for parameter in network.parameters())


def test_checkpointing_keeps_less_and_computes_it_again():
    with torch.device("meta"):
        network = bert(layers=6)
    plain = activation_model(network, loss_with(network, 64), 64, "cuda")(8)
    network.gradient_checkpointing_enable({"use_reentrant": False})
    again = activation_model(network, loss_with(network, 64), 64, "cuda")(8)
    assert again.kept < 0.3 * plain.kept
    assert again.kept < again.most < 0.6 * plain.most


@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "llama"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_each_task_is_traced_with_a_mask_of_padding(name, attention):
    task = task_of(name)
    with torch.device("meta"):
        network = network_of({"network": name, "attention": attention}, task, tiny=True)
    with_mask = activations_of_task(task, network, 48, "cuda")(4)
    without = activations_of_task(task, network, 48, "cuda", masked=False)(4)
    assert with_mask.kept >= without.kept > 0
    assert with_mask.before_last_weight > without.before_last_weight
    if attention == "sdpa":  # each layer keeps a copy
        layers = network.config.num_hidden_layers
        assert with_mask.kept - without.kept == 4 * 48 * 48 * 4 * layers


def test_only_masked_tokens_have_logits():
    task = task_of("bert")
    with torch.device("meta"):
        network = network_of({"network": "bert"}, task, tiny=True)
    vocabulary = network.config.vocab_size
    (left,) = {activations_of_task(task, network, 100, "cuda")(6).left}
    assert left == pytest.approx(4 * vocabulary * 90, rel=0.05)


def test_a_question_has_several_rows():
    batch = batch_without_contents(MultipleChoice(), 5, 20)
    assert batch["input_ids"].shape == (5, 4, 20)
    assert batch["labels"].shape == (5,)
