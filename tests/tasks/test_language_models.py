"""Losses and scores of masked and causal language modelling, against plain torch."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from headrace.encoding.collate import pack_labelled, pad_labelled
from headrace.tasks.causal_lm import CausalLM
from headrace.tasks.language_model_metrics import LanguageModelScores
from headrace.tasks.masked_lm import MaskedLM
from headrace.tasks.task import IGNORED
from headrace.training.packed_inputs import PackedInputs

SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 70,
    "initializer_range": 0.3,
    "pad_token_id": 1,
}
MASKED: dict[str, dict[str, Any]] = {
    **{key: {} for key in ("bert", "roberta", "xlm-roberta", "albert", "mpnet", "deberta-v2")},
    "electra": {"embedding_size": 8},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
}
CAUSAL: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 70},
    "llama": {"num_key_value_heads": 1},
    "gpt_neox": {},
    "qwen2": {"num_key_value_heads": 1},
    "bert": {"is_decoder": True},
}


def network_of(kind: str, *, causal: bool) -> Any:
    torch.manual_seed(3)
    given = CAUSAL if causal else MASKED
    settings = AutoConfig.for_model(kind, **{**SMALL, **given[kind]})
    for name, value in vars(settings).copy().items():
        if name.endswith(("dropout", "_pdrop", "dropout_prob")) and isinstance(value, float):
            setattr(settings, name, 0.0)
    makers = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    return makers.from_config(settings).double()


def rows_of(lengths: list[int], *, causal: bool) -> list[Any]:
    chance = np.random.default_rng(1)
    rows = []
    for length in lengths:
        tokens = chance.integers(5, 90, length)
        labels = tokens.copy()
        labels[0] = IGNORED
        if not causal:
            labels[chance.random(length) < 0.7] = IGNORED
        rows.append((tokens, labels))
    return rows


def as_tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def gradient_of(network: Any, loss: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    loss.backward()
    return torch.cat(
        [torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten()
         for w in network.parameters()]
    )  # fmt: skip


@pytest.mark.parametrize("kind", MASKED)
def test_the_loss_of_masked_tokens_is_that_of_the_whole_output(kind: str) -> None:
    """The head computes the masked tokens alone; the loss and the gradient are the same."""
    network = network_of(kind, causal=False)
    batch = as_tensors(pad_labelled(rows_of([9, 30, 1, 17], causal=False), pad_id=1))
    loss, logits = MaskedLM().loss_sum(network, batch, training=True)
    whole = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = cross_entropy(
        whole.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits, whole[batch["labels"] != IGNORED], rtol=1e-9, atol=1e-9)
    found, wanted = gradient_of(network, loss), gradient_of(network, expected)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    assert wanted.norm() > 1e-2
    assert not network.base_model._forward_hooks


def test_the_head_sees_masked_tokens_alone() -> None:
    network = network_of("bert", causal=False)
    seen = []
    network.cls.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    batch = as_tensors(pad_labelled(rows_of([30, 30], causal=False), pad_id=1))
    MaskedLM().loss_sum(network, batch, training=True)
    assert seen == [(1, int((batch["labels"] != IGNORED).sum()), 16)]


@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_without_labels_changes_nothing(causal: bool) -> None:
    """Every weight has a gradient all the same, which is zero: ranks wait for each other."""
    task = CausalLM() if causal else MaskedLM()
    network = network_of("gpt2" if causal else "roberta", causal=causal)
    loss, _ = task.loss_sum(network, task.idle(1), training=True)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(
        weights.grad.any() for weights in network.parameters() if weights.grad is not None
    )
    decoder = network.get_output_embeddings().weight
    assert decoder.grad is not None


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_loss_of_a_text_is_that_of_transformers(kind: str) -> None:
    """Which shifts labels too, and takes the mean."""
    network = network_of(kind, causal=True)
    rows = rows_of([9, 30, 17], causal=True)
    batch = as_tensors(pad_labelled(rows, pad_id=1))
    loss, _ = CausalLM().loss_sum(network, batch, training=True)
    assert (batch["labels"] != IGNORED).sum() == 8 + 29 + 16
    expected = 0.0
    for tokens, _ in rows:
        ids = torch.from_numpy(tokens)[None]
        expected += float(network(input_ids=ids, labels=ids).loss) * (len(tokens) - 1)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", CAUSAL)
def test_packed_texts_have_the_loss_and_the_gradient_of_padded_ones(kind: str) -> None:
    network = network_of(kind, causal=True)
    rows = rows_of([9, 30, 17, 5, 40, 2], causal=True)
    starts = np.array([0, 3, 6])
    packed = as_tensors(pack_labelled(rows, starts, pad_id=1, pack_length=60))
    padded = as_tensors(pad_labelled(rows, pad_id=1))
    inputs = PackedInputs(network, is_causal=True)
    task = CausalLM()
    loss, _ = task.loss_sum(network, inputs(packed), training=True)
    expected, _ = task.loss_sum(network, padded, training=True)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    found, wanted = gradient_of(network, loss), gradient_of(network, expected)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    inputs.check(network.float(), pack_length=60, max_length=40)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_without_the_mask_the_loss_would_be_another(kind: str) -> None:
    network = network_of(kind, causal=True)
    rows = rows_of([9, 30, 17], causal=True)
    packed = as_tensors(pack_labelled(rows, np.array([0, 3]), pad_id=1, pack_length=60))
    inputs, task = PackedInputs(network, is_causal=True), CausalLM()
    right, _ = task.loss_sum(network, inputs(packed), training=True)
    one_text = {**packed, "segments": (packed["segments"] > 0).long()}
    wrong, _ = task.loss_sum(network, inputs(one_text), training=True)
    assert abs(float(right.detach()) - float(wrong.detach())) > 1e-3


def test_a_network_that_looks_ahead_is_refused() -> None:
    settings = AutoConfig.for_model("bert", **SMALL)
    (problem,) = CausalLM().problems_of_network(settings)
    assert "is_decoder" in problem.remedy
    settings.is_decoder = True
    assert not CausalLM().problems_of_network(settings)
    for kind in ("gpt2", "llama", "qwen2"):
        assert not CausalLM().problems_of_network(AutoConfig.for_model(kind))


@pytest.mark.parametrize("causal", [False, True])
def test_drawn_labels_have_the_chances_that_the_network_gives(causal: bool) -> None:
    task: Any = CausalLM() if causal else MaskedLM()
    network = network_of("gpt2" if causal else "bert", causal=causal).float()
    batch = as_tensors(pad_labelled(rows_of([6, 12], causal=causal), pad_id=1))
    with torch.no_grad():
        _, logits = task.loss_sum(network, batch, training=False)
    generator = torch.Generator().manual_seed(7)
    draws = torch.stack([task.draw_labels(logits, batch, generator)["labels"] for _ in range(1500)])
    assert ((draws == IGNORED) == (batch["labels"] == IGNORED)).all()
    places = torch.nonzero(batch["labels"] != IGNORED)
    for number, (row, column) in enumerate(places.tolist()):
        chances = (logits[row, column - 1] if causal else logits[number]).softmax(-1)
        found = torch.bincount(draws[:, row, column], minlength=90) / len(draws)
        assert float((found - chances).abs().max()) < 0.06


class Shard:
    """An encoded shard as far as scores look at it."""

    def bytes(self, sample: int) -> int:
        return 10 * (sample + 1)

    def subset(self, sample: int) -> str | None:
        return ("clean", None)[sample % 2]


@pytest.mark.parametrize("causal", [False, True])
def test_scores_are_those_of_the_losses(causal: bool) -> None:
    """Per sample by hand; the division over processes changes nothing."""
    task: Any = CausalLM() if causal else MaskedLM()
    network = network_of("gpt2" if causal else "bert", causal=causal)
    rows = rows_of([9, 30, 17, 12, 21], causal=causal)
    source: Any = SimpleNamespace(shards=[Shard()])
    shares = []
    for numbers in ([0, 1, 2], [3, 4]):
        batch = as_tensors(pad_labelled([rows[n] for n in numbers], pad_id=1))
        with torch.no_grad():
            _, logits = task.loss_sum(network, batch, training=False)
        own = task.new_scores()
        where: Any = SimpleNamespace(shard=np.zeros(len(numbers), int), sample=np.array(numbers))
        task.score(own, source, where, logits, batch)
        shares.append(own.counts())
    results = []
    for order in (shares, shares[::-1]):
        joined = task.new_scores()
        for share in json.loads(json.dumps(order)):
            joined.merge(share)
        results.append(joined.result())
    assert results[0] == results[1]
    nats = tokens = right = 0
    for ids, labels in rows:
        with torch.no_grad():
            logits = network(input_ids=torch.from_numpy(ids)[None]).logits[0]
        shift = int(causal)
        wanted = torch.from_numpy(labels)[shift:]
        predicted = logits[: len(wanted)]
        nats += float(cross_entropy(predicted, wanted, ignore_index=IGNORED, reduction="sum"))
        tokens += int((wanted != IGNORED).sum())
        right += int((predicted.argmax(-1) == wanted).sum())
    found = results[0]
    assert found["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert found["token_accuracy"] == pytest.approx(right / tokens)
    assert (found["tokens"], found["samples"], found["bytes"]) == (tokens, 5, 150)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / 150, rel=1e-5)
    assert found["subsets"]["clean"]["samples"] == 3


def test_scores_do_not_depend_on_the_order_of_samples() -> None:
    chance = random.Random(0)
    samples = [(chance.random() * 50, chance.randint(1, 9), 1) for _ in range(200)]
    results = []
    for _ in range(3):
        chance.shuffle(samples)
        scores = LanguageModelScores()
        for sample in samples:
            scores.update(*sample, size=3)
        results.append(scores.result())
    assert results[0] == results[1] == results[2]


def test_scores_without_numbers() -> None:
    scores = LanguageModelScores()
    assert scores.result() == {
        "perplexity": math.inf, "token_accuracy": 0.0, "samples": 0, "tokens": 0, "subsets": {},
    }  # fmt: skip
    scores.update(math.nan, 4, 0)
    assert scores.result()["perplexity"] == math.inf
    with pytest.raises(ValueError, match="another version"):
        scores.merge({"version": 0})
