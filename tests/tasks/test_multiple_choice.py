"""The loss and the logits of multiple choice, against plain calls of torch and transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMultipleChoice

from headrace.encoding.collate import pad_choices
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.pair_inputs import takes_token_types

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
    "camembert": {**SMALL, "type_vocab_size": 1},
    "distilbert": {
        **{"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
        **{"max_position_embeddings": 40, "initializer_range": 0.3},
    },
    "electra": {**SMALL, "embedding_size": 8},
    "albert": {**SMALL, "embedding_size": 8},
    "deberta-v2": SMALL,
    "mpnet": SMALL,
}
PAD = 1


def network_of(kind: str) -> Any:
    torch.manual_seed(3)
    settings = AutoConfig.for_model(kind, pad_token_id=PAD, **NETWORKS[kind])
    return AutoModelForMultipleChoice.from_config(settings).eval()


def samples(counts: list[int]) -> list[list[tuple[list[int], list[int]]]]:
    torch.manual_seed(5)
    rows = []
    for count in counts:
        row = []
        for _ in range(count):
            first, second = torch.randint(2, 12, (2,)).tolist()
            ids = torch.randint(5, 60, (first + second,)).tolist()
            row.append((ids, [0] * first + [1] * second))
        rows.append(row)
    return rows


def batch_of(rows: Any, labels: list[int]) -> dict[str, torch.Tensor]:
    arrays = pad_choices(rows, pad_id=PAD)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {**tensors, "labels": torch.tensor(labels)}


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_are_those_of_each_sample_alone(kind: str) -> None:
    network = network_of(kind)
    rows = samples([2, 4, 3, 2])
    batch = batch_of(rows, [0, 3, 1, 1])
    task = MultipleChoice()
    with torch.no_grad():
        loss, logits = task.loss_sum(network, batch, training=False)
        expected_loss = 0.0
        for row, own in enumerate(rows):
            alone = []
            for ids, types in own:
                call = {"input_ids": torch.tensor([[ids]])}
                call["attention_mask"] = torch.ones_like(call["input_ids"])
                if kind in ("bert", "electra", "albert"):
                    call["token_type_ids"] = torch.tensor([[types]])
                alone.append(network(**call).logits[0, 0])
            expected = torch.stack(alone)
            torch.testing.assert_close(logits[row, : len(own)], expected, rtol=1e-4, atol=1e-4)
            assert (logits[row, len(own) :] == -torch.inf).all()
            assert expected.std() > 1e-3
            expected_loss += float(
                torch.nn.functional.cross_entropy(expected, batch["labels"][row])
            )
    assert float(loss) == pytest.approx(expected_loss, rel=1e-4)


def test_the_number_of_choices_is_not_in_the_network() -> None:
    assert MultipleChoice().model_settings() == {}
    network = network_of("bert")
    for count in (2, 5):
        batch = batch_of(samples([count]), [1])
        assert MultipleChoice().logits(network, batch).shape == (1, count)


def test_smoothing_with_equal_numbers_of_choices_is_that_of_torch() -> None:
    network = network_of("bert")
    batch = batch_of(samples([3, 3]), [2, 0])
    task = MultipleChoice(label_smoothing=0.2)
    loss, logits = task.loss_sum(network, batch, training=True)
    expected = torch.nn.functional.cross_entropy(
        logits, batch["labels"], reduction="sum", label_smoothing=0.2
    )
    torch.testing.assert_close(loss, expected)
    plain, _ = task.loss_sum(network, batch, training=False)
    assert float(plain.detach()) != pytest.approx(float(loss.detach()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_missing_choices_have_no_part_in_the_gradient(smoothing: float) -> None:
    """A sample has the gradient that it has alone, whatever is in the batch beside it."""
    task = MultipleChoice(label_smoothing=smoothing)
    rows = samples([2, 4])
    gradients = []
    for parts in ([batch_of(rows, [1, 2])], [batch_of([rows[0]], [1]), batch_of([rows[1]], [2])]):
        network = network_of("bert").double()
        for part in parts:
            loss, _ = task.loss_sum(network, part, training=True)
            loss.backward()
        gradients.append(torch.cat([weights.grad.flatten() for weights in network.parameters()]))
    assert gradients[0].isfinite().all()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
    assert gradients[0].norm() > 1e-3


def test_an_idle_batch_changes_nothing() -> None:
    network = network_of("roberta")
    loss, _ = MultipleChoice(label_smoothing=0.1).loss_sum(
        network, MultipleChoice().idle(PAD), training=True
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(weights.grad is None or not weights.grad.any() for weights in network.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_token_types_go_where_there_are_embeddings_for_them(kind: str) -> None:
    assert takes_token_types(network_of(kind)) == (kind in ("bert", "electra", "albert"))
