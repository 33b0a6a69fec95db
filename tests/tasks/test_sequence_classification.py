"""The loss, the logits and the answers of sequence classification, against plain torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss
from transformers import AutoConfig, AutoModelForSequenceClassification

from headrace.encoding.collate import pad_texts
from headrace.tasks.heads import Head, Heads
from headrace.tasks.sequence_classification import SequenceClassification

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "roberta": {**SMALL, "type_vocab_size": 1},
    "xlm-roberta": {**SMALL, "type_vocab_size": 1},
    "distilbert": {
        **{"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
        **{"max_position_embeddings": 40, "initializer_range": 0.3},
    },
    "electra": {**SMALL, "embedding_size": 8},
    "deberta-v2": SMALL,
    "mpnet": SMALL,
}
PAD = 1
HEADS = Heads(
    [
        Head("nli", ("qnli",), ("entailment", "not_entailment")),
        Head("similarity", ("sts",), None),
        Head("sentiment", ("hau", "ibo"), ("negative", "neutral", "positive")),
    ]
)
NLI, SIMILARITY, SENTIMENT = HEADS.all


def network_of(kind: str, heads: Heads = HEADS) -> Any:
    torch.manual_seed(3)
    settings = AutoConfig.for_model(
        kind, pad_token_id=PAD, **NETWORKS[kind], **SequenceClassification(heads).model_settings()
    )
    return AutoModelForSequenceClassification.from_config(settings).eval()


def batch_of(members: list[tuple[Head, int | float]]) -> dict[str, torch.Tensor]:
    """A batch of random pairs; each member is a head and its label's number, or the score."""
    torch.manual_seed(5)
    rows = []
    for _ in members:
        first, second = torch.randint(2, 12, (2,)).tolist()
        ids = torch.randint(5, 60, (first + second,)).tolist()
        rows.append((ids, [0] * first + [1] * second))
    tensors = {name: torch.from_numpy(array) for name, array in pad_texts(rows, pad_id=PAD).items()}
    scored = [head.labels is None for head, _ in members]
    labels = [
        head.start + (0 if is_score else int(answer))
        for (head, answer), is_score in zip(members, scored, strict=True)
    ]
    scores = [
        answer if is_score else math.nan
        for (_, answer), is_score in zip(members, scored, strict=True)
    ]
    return {
        **tensors,
        "labels": torch.tensor(labels),
        "head_starts": torch.tensor([head.start for head, _ in members]),
        "head_sizes": torch.tensor([head.size for head, _ in members]),
        "scores": torch.tensor(scores),
    }


MIXED = [(SENTIMENT, 2), (NLI, 0), (SIMILARITY, 3.8), (NLI, 1), (SENTIMENT, 0)]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_loss_of_a_sample_is_that_of_its_head(kind: str) -> None:
    network, batch = network_of(kind), batch_of(MIXED)
    types = {"token_type_ids": batch["token_type_ids"]} if kind in ("bert", "electra") else {}
    with torch.no_grad():
        loss, logits = SequenceClassification(HEADS).loss_sum(network, batch, training=False)
        plain = network(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **types
        ).logits
    assert plain.shape == (5, 6)
    expected = 0.0
    for row, (head, answer) in enumerate(MIXED):
        own = plain[row, head.start : head.stop]
        torch.testing.assert_close(logits[row, head.start : head.stop], own)
        foreign = torch.ones(6, dtype=bool)
        foreign[head.start : head.stop] = False
        assert (logits[row, foreign] == -torch.inf).all()
        if head.labels is None:
            expected += float(mse_loss(own[0], torch.tensor(answer)))
        else:
            expected += float(cross_entropy(own, torch.tensor(answer)))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_are_those_of_each_sample_alone(smoothing: float) -> None:
    task = SequenceClassification(HEADS, label_smoothing=smoothing)
    whole = batch_of(MIXED)
    alone = [
        {name: tensor[row : row + 1] for name, tensor in whole.items()} for row in range(len(MIXED))
    ]
    gradients = []
    for parts in ([whole], alone):
        network = network_of("bert").double()
        for part in parts:
            loss, _ = task.loss_sum(network, part, training=True)
            loss.backward()
        gradients.append(torch.cat([weights.grad.flatten() for weights in network.parameters()]))
    assert gradients[0].isfinite().all()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
    assert gradients[0].norm() > 1e-3


def test_smoothing_is_that_of_torch_over_the_labels_of_the_head() -> None:
    network = network_of("bert")
    members = [(SENTIMENT, 2), (SENTIMENT, 0), (SIMILARITY, 1.5)]
    batch = batch_of(members)
    task = SequenceClassification(HEADS, label_smoothing=0.3)
    loss, logits = task.loss_sum(network, batch, training=True)
    own = logits[:2, SENTIMENT.start : SENTIMENT.stop]
    expected = cross_entropy(own, torch.tensor([2, 0]), reduction="sum", label_smoothing=0.3)
    expected = expected + (logits[2, SIMILARITY.start] - 1.5) ** 2
    torch.testing.assert_close(loss, expected)
    plain, _ = task.loss_sum(network, batch, training=False)
    assert float(plain.detach()) != pytest.approx(float(loss.detach()))


def test_an_idle_batch_changes_nothing() -> None:
    network = network_of("roberta")
    task = SequenceClassification(HEADS, label_smoothing=0.1)
    loss, _ = task.loss_sum(network, task.idle(PAD), training=True)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(weights.grad is None or not weights.grad.any() for weights in network.parameters())


def test_drawn_labels_have_the_chances_that_the_network_gives() -> None:
    members = [(NLI, 0), (SENTIMENT, 1), (SIMILARITY, 2.0)]
    batch = batch_of(members)
    task = SequenceClassification(HEADS)
    with torch.no_grad():
        _, logits = task.loss_sum(network_of("bert"), batch, training=False)
    random = torch.Generator().manual_seed(7)
    draws = [task.draw_labels(logits, batch, random) for _ in range(2000)]
    labels = torch.stack([drawn["labels"] for drawn in draws])
    for column, head in ((0, NLI), (1, SENTIMENT)):
        expected = logits[column].softmax(-1)
        found = torch.bincount(labels[:, column], minlength=6) / len(draws)
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
        assert found[head.start : head.stop].sum() == 1
    scores = torch.stack([drawn["scores"] for drawn in draws])
    assert scores[:, :2].isnan().all()
    assert float(scores[:, 2].mean()) == pytest.approx(float(logits[2, SIMILARITY.start]), abs=0.08)
    assert float(scores[:, 2].var()) == pytest.approx(0.5, abs=0.06)


def test_outputs_have_names_of_their_own() -> None:
    task = SequenceClassification(HEADS)
    names = ["nli:entailment", "nli:not_entailment", "similarity"]
    names += ["sentiment:negative", "sentiment:neutral", "sentiment:positive"]
    assert list(task.model_settings()["id2label"].values()) == names
    assert task.model_settings()["problem_type"] is None
    assert set(task.scores) == {"accuracy", "macro_f1", "matthews", "spearman", "pearson"}
    one = SequenceClassification(Heads([Head("all", None, ("no", "yes"))]))
    assert one.model_settings() == {
        "num_labels": 2,
        "id2label": {0: "no", 1: "yes"},
        "label2id": {"no": 0, "yes": 1},
        "problem_type": "single_label_classification",
    }
    score = SequenceClassification(Heads([Head("all", None, None)]))
    assert score.model_settings()["problem_type"] == "regression"
    assert list(score.scores) == ["spearman", "pearson"]
    assert Heads.from_facts(HEADS.facts()).all == HEADS.all
