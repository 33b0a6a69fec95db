"""Packed and unpacked batches have the same losses and gradients, or the network is refused."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForTokenClassification

from headrace.config import load_run_config
from headrace.encoding.collate import collate_packed
from headrace.errors import ConfigError, UserError
from headrace.stream.packing import Packs
from headrace.training.data import collate, encode_data, open_data, plan_batches
from headrace.training.packed_inputs import PackedInputs
from headrace.training.stages import expand_stages

PACK_LENGTH = 128
MAX_LENGTH = 48
LOCAL = {"local_attention": 8, "global_attn_every_n_layers": 2, "sliding_window": 8}
RELATIVE = {
    "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
}  # fmt: skip
MODERN = {key: LOCAL[key] for key in ("local_attention", "global_attn_every_n_layers")}

NETWORKS = [
    *((kind, attention, {})
      for kind in ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert")
      for attention in ("eager", "sdpa")),
    ("modernbert", "eager", MODERN),
    ("modernbert", "sdpa", MODERN),
    ("camembert", "sdpa", {}),
    ("mpnet", "eager", {}),
    ("deberta", "eager", RELATIVE),
    ("deberta-v2", "eager", {"position_biased_input": True}),
    ("deberta-v2", "eager",
     {**RELATIVE, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}),
    ("eurobert", "sdpa", {}),
]  # fmt: skip


def tiny(kind, attention, settings, **more):
    torch.manual_seed(5)
    config = AutoConfig.for_model(
        kind,
        **{
            "vocab_size": 1300, "hidden_size": 32, "num_hidden_layers": 3,
            "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
            "pad_token_id": 1, "num_labels": 67, **settings, **more,
        },
    )  # fmt: skip
    for name, value in vars(config).copy().items():
        if "dropout" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    network = AutoModelForTokenClassification.from_config(config, attn_implementation=attention)
    assert network.config._attn_implementation == attention
    return network


@pytest.fixture(scope="module")
def both_batches(small_corpus, tmp_path_factory):
    """The same samples of a planned batch packed, and padded in a row each; and the task."""
    folder = tmp_path_factory.mktemp("packed")
    batching = {"type": "packed", "pack_length": PACK_LENGTH}
    path = small_corpus.write_config(
        folder / "run.json", folder / "run",
        **{"headrace.batching": batching, "train_batch_size": 5},
    )  # fmt: skip
    config = load_run_config(path)
    data = encode_data(open_data(config), config)
    branch = expand_stages(config)[0]
    plan = plan_batches(config, branch, data)
    sources = [data.train[language] for language in branch.languages]
    # the last batch has rows that are not full
    packs = plan.batch(plan.steps_before(1) - 1).join(plan.batch(0))
    assert isinstance(packs, Packs)
    arrays = collate_packed(sources, packs.samples, packs.starts, pad_id=1, pack_length=PACK_LENGTH)
    packed = {name: torch.from_numpy(array) for name, array in arrays.items()}
    unpacked = collate(data.opened.task, sources, packs.samples, 1)
    rows, samples = len(packed["input_ids"]), len(unpacked["input_ids"])
    assert samples > 2 * rows
    assert (packed["segments"] == 0).any()
    assert (packed["labels"] >= 0).sum() == (unpacked["labels"] >= 0).sum() > 100
    return packed, unpacked, data.opened.task


def loss_and_gradients(network, task, inputs):
    network.zero_grad()
    loss, _ = task.loss_sum(network, inputs, training=True)
    loss.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    assert len(gradients) > 20
    return loss.detach(), gradients


def assert_equal_packed_and_unpacked(network, both_batches, tolerance):
    packed, unpacked, task = both_batches
    network.eval()
    inputs = PackedInputs(network)
    loss, gradients = loss_and_gradients(network, task, inputs(packed))
    expected, expected_gradients = loss_and_gradients(network, task, unpacked)
    assert gradients.keys() == expected_gradients.keys()
    assert float(loss) == pytest.approx(float(expected), rel=tolerance)
    size = max(float(gradient.abs().max()) for gradient in expected_gradients.values())
    for name, gradient in gradients.items():
        worst = float((gradient - expected_gradients[name]).abs().max())
        assert worst <= tolerance * size, name
    return inputs


@pytest.mark.parametrize(("kind", "attention", "settings"), NETWORKS)
def test_packing_changes_no_loss_and_no_gradient(kind, attention, settings, both_batches):
    network, tolerance = tiny(kind, attention, settings), 2e-5
    if (kind, attention) != ("modernbert", "eager"):  # computes softmax in fp32 whatever is given
        # the loss itself is summed in fp32, whatever the network computes in
        network, tolerance = network.double(), 1e-6
    inputs = assert_equal_packed_and_unpacked(network, both_batches, tolerance)
    network.float().train()
    inputs.check(network, pack_length=PACK_LENGTH, max_length=MAX_LENGTH)
    assert network.training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {}),
        # has layers of that kind of mask too
        pytest.param("modernbert", MODERN, marks=pytest.mark.extended),
    ],
)
def test_packing_changes_no_loss_with_flex_attention(kind, settings, both_batches):
    """PyTorch computes it on the CPU, but no gradients."""
    packed, unpacked, task = both_batches
    network = tiny(kind, "flex_attention", settings).eval()
    inputs = PackedInputs(network)
    with torch.no_grad():
        loss, logits = task.loss_sum(network, inputs(packed), training=True)
        expected, alone = task.loss_sum(network, unpacked, training=True)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    together = logits[packed["segments"] > 0]
    assert torch.allclose(together, alone[unpacked["attention_mask"] > 0], atol=2e-5)


@pytest.mark.slow
def test_flex_attention_does_not_train_on_the_cpu(small_corpus, world, tmp_path):
    from headrace.training.run import train_in_group
    from headrace.training.signals import StopFlag

    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.model.attention": "flex_attention"}
    )
    config = load_run_config(path)
    with pytest.raises(UserError, match=r"flex_attention.*sdpa"):
        train_in_group(config, expand_stages(config), world, StopFlag())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packing_changes_nothing_for_a_pretrained_network(minilm, attention, both_batches):
    network = AutoModelForTokenClassification.from_pretrained(
        minilm, num_labels=67, attn_implementation=attention
    )
    inputs = assert_equal_packed_and_unpacked(network.double(), both_batches, 1e-6)
    inputs.check(network.float(), pack_length=PACK_LENGTH, max_length=MAX_LENGTH)


def test_the_check_leaves_no_trace():
    network = tiny("roberta", "sdpa", {})
    network.train()
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    random = torch.get_rng_state()
    PackedInputs(network).check(network, pack_length=PACK_LENGTH, max_length=MAX_LENGTH)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("convbert", {}),  # convolutions run over the edges of samples
        ("llama", {}),  # looks only back
        ("esm", {"mask_token_id": 4}),  # takes no mask of queries and keys
        ("deberta-v2", {**RELATIVE, "conv_kernel_size": 3}),
    ],
)
def test_networks_that_mix_packed_samples_are_refused_by_name(kind, settings):
    network = AutoModelForTokenClassification.from_config(
        tiny_config := AutoConfig.for_model(
            kind,
            **{
                "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "intermediate_size": 64,
                "max_position_embeddings": PACK_LENGTH + 2, "pad_token_id": 1, **settings,
            },
        )
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        PackedInputs(network).check(network, pack_length=PACK_LENGTH, max_length=MAX_LENGTH)
    (problem,) = caught.value.problems
    assert problem.where == "headrace.batching.type"
    assert type(network).__name__ in str(problem.value)
    assert "tokens" in str(problem.remedy)
    assert tiny_config.model_type == kind


@pytest.mark.parametrize("wrong", ["mask", "positions", "window"])
def test_the_check_finds_what_is_wrong_with_small_weights(wrong, monkeypatch):
    """What a network does with positions and other tokens hardly shows while weights are small."""
    kind, settings = ("modernbert", MODERN) if wrong == "window" else ("bert", {})
    more = {"max_position_embeddings": PACK_LENGTH, "initializer_range": 0.001}
    network = tiny(kind, "sdpa", settings, **more)
    inputs = PackedInputs(network)
    inputs.check(network, pack_length=PACK_LENGTH, max_length=MAX_LENGTH)
    if wrong == "mask":
        monkeypatch.setattr(inputs, "_mask", lambda segments: (segments > 0).long())
    elif wrong == "positions":
        inputs.takes_positions = False
    else:
        inputs.has_sliding_layers = False
    with pytest.raises(ConfigError, match="other logits"):
        inputs.check(network, pack_length=PACK_LENGTH, max_length=MAX_LENGTH)


def test_flash_attention_is_refused_by_name():
    network = tiny("bert", "sdpa", {})
    network.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match=r"flash_attention_2.*sdpa"):
        PackedInputs(network)


def test_a_packed_run_with_flash_attention_is_refused_beforehand(small_corpus, tmp_path, capsys):
    from headrace.cli import main

    path = small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "run",
        **{
            "headrace.model.attention": "flash_attention_2",
            "headrace.batching": {"type": "packed"},
        },
    )
    assert main(["train", "--ds_config", str(path), "--dry-run"]) == 2
    assert "flash_attention_2" in capsys.readouterr().err


def test_a_packed_run_of_such_a_network_leaves_no_trace(small_corpus, world, tmp_path):
    from headrace.training.run import train_in_group
    from headrace.training.signals import StopFlag

    network = {**small_corpus.config(tmp_path)["headrace"]["model"]["config"]}
    path = small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "run",
        **{
            "headrace.model.config": {**network, "model_type": "convbert"},
            "headrace.batching": {"type": "packed"},
            "headrace.data.cache_dir": str(tmp_path / "cache"),
        },
    )
    config = load_run_config(path)
    with pytest.raises(UserError, match="ConvBertForTokenClassification"):
        train_in_group(config, expand_stages(config), world, StopFlag())
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_rows_of_one_sample_need_no_mask_of_their_own(both_batches):
    """Validation calls a network that trains on packed rows with padded samples."""
    _, unpacked, task = both_batches
    network = tiny("deberta-v2", "eager", RELATIVE).eval()
    with torch.no_grad():
        before, _ = task.loss_sum(network, unpacked, training=False)
        PackedInputs(network)
        after, _ = task.loss_sum(network, unpacked, training=False)
    assert before == after
    assert np.isfinite(float(after))
