"""Adapters in networks of several kinds: where they are, what is trained, what is exported."""

import re
import sys

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MambaConfig,
    MambaForCausalLM,
    T5Config,
)

from headrace.cli import main
from headrace.config import load_run_config
from headrace.config.learning_rates import ParamGroupsConfig, ScheduleConfig
from headrace.config.lora import LoraConfig
from headrace.config.schema import ModelConfig
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import ConfigError
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.training.layers import discover_layers
from headrace.training.lora import add_adapters, merged
from headrace.training.model import build_model
from headrace.training.param_groups import Settings, make_groups

SMALL = {"vocab_size": 90, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1}
WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
NETWORKS = {
    "bert": BertConfig(**SMALL, **WIDTH, intermediate_size=48),
    "gpt2": GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=2),
    "deberta": DebertaV2Config(**SMALL, **WIDTH, intermediate_size=48),
    "llama": LlamaConfig(**SMALL, **WIDTH, intermediate_size=48, num_key_value_heads=1),
    "t5": T5Config(
        **SMALL, d_model=32, d_kv=8, num_layers=2, num_heads=2, d_ff=48, decoder_start_token_id=0,
    ),
    "bart": BartConfig(
        **SMALL, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48,
    ),
    "albert": AlbertConfig(**SMALL, **WIDTH, embedding_size=16, intermediate_size=48),
}  # fmt: skip


def make(name):
    torch.manual_seed(4)
    return AutoModelForSequenceClassification.from_config(NETWORKS[name]).eval()


def with_adapters(name, **settings):
    """A network whose adapters have something to say."""
    network = make(name)
    add_adapters(network, LoraConfig(rank=3, **settings))
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    return network


def logits(network):
    ids = torch.tensor([[1, 7, 30, 55, 2], [1, 81, 3, 4, 2]])
    with torch.no_grad():
        return network(input_ids=ids).logits


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_change_nothing_at_first(name):
    network = make(name)
    before = logits(network)
    add_adapters(network, LoraConfig(dropout=0.5))
    assert torch.equal(logits(network), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_merged_weights_are_those_of_a_plain_network_that_answers_as_the_adapted_one(name):
    network, plain = with_adapters(name, alpha=12), make(name)
    untouched = logits(plain)
    plain.load_state_dict(merged(network.state_dict(), network))
    assert torch.allclose(logits(plain), logits(network), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(plain), untouched, atol=1e-2)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_merged_weights_are_those_that_peft_merges(name):
    from peft.tuners.lora import LoraLayer

    network = with_adapters(name)
    ours = merged(network.state_dict(), network)
    layers = {path: one for path, one in network.named_modules() if isinstance(one, LoraLayer)}
    assert layers
    for path, layer in layers.items():
        layer.merge()
        assert torch.equal(ours[f"{path}.weight"], layer.base_layer.weight)


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_and_the_head_are_trained_and_nothing_else(name):
    network = with_adapters(name)
    trained = {key for key, one in network.named_parameters() if one.requires_grad}
    head = {key for key in trained if ".lora_" not in key}
    prefix = f"{network.base_model_prefix}."
    assert head == {key for key, _ in network.named_parameters() if not key.startswith(prefix)}
    assert not any("lora_" in key for key in head)
    adapted = {key.rpartition(".lora_A")[0] for key in trained if ".lora_A." in key}
    left = [
        key for key, one in network.named_modules()
        if type(one).__name__ in ("Linear", "Conv1D") and key.startswith(prefix)
        and "base_layer" not in key and ".lora_" not in key and key not in adapted
    ]  # fmt: skip
    assert left == [], "all linear layers of the body have one"


@pytest.mark.parametrize("name", ["bert", "gpt2", "deberta", "llama", "t5", "bart"])
def test_an_adapter_is_in_the_layer_that_it_adapts(name):
    plain, network = discover_layers(make(name)), with_adapters(name)
    layout = discover_layers(network)
    assert layout.stacks == plain.stacks
    found = 0
    for key, place in layout.places.items():
        path, lora, _ = key.partition(".lora_")
        if lora:
            assert place == plain.places[f"{path}.weight"], key
            found += place.part == "layer"
    assert found


BASE = Settings(1e-3, 0.01, ScheduleConfig())


def groups_of(network, **settings):
    return make_groups(network, ParamGroupsConfig(**settings), BASE, "headrace.param_groups")


def test_a_group_of_layers_takes_their_adapters_and_the_table_counts_what_is_trained():
    network = with_adapters("bert")
    groups = groups_of(
        network,
        groups=[
            {"name": "low", "select": {"layers": 0}, "lr": 1e-5},
            {"name": "query", "select": {"regex": r"\.query\."}, "freeze": True},
            {"name": "others", "select": "rest"},
        ],
    )
    rows = {row.name: row for row in groups.rows}
    # rank 3: four matrices of attention, and two of 32 x 48, in each layer
    assert rows["low"].size == 4 * 3 * 64 + 2 * 3 * 80
    assert all(".layer.0." in name and ".lora_" in name for name in rows["low"].parameters)
    assert len(rows["query"].parameters) == 2
    trained = sum(one["params"][n].numel() for one in groups.for_optimizer(network)
                  for n in range(len(one["params"])))  # fmt: skip
    total = sum(parameter.numel() for parameter in network.parameters())
    (rest,) = groups.fixed
    assert sum(row.size for row in groups.rows) + rest.size == total
    assert f"trained: {trained:,} of {total:,} parameters ({100 * trained / total:.2g} %)" in (
        groups.describe()
    )
    assert rest.settings is None
    assert not any(".lora_" in name for name in rest.parameters)


@pytest.mark.parametrize("settings", [
    {"llrd": 0.5},
    {"distribution": [n * 1e-4 for n in range(1, 11)], "split": "paper-code", "rescale": True},
])  # fmt: skip
def test_rates_of_layers_reach_the_adapters(settings):
    groups = groups_of(with_adapters("bert"), **settings)
    rates = {}
    for one, rows in groups.merged:
        for row in rows:
            for name in row.parameters:
                rates[name] = one.learning_rate
    low = rates["bert.encoder.layer.0.attention.self.query.lora_A.default.weight"]
    top = rates["bert.encoder.layer.1.attention.self.query.lora_A.default.weight"]
    assert low < top <= rates["classifier.weight"]
    assert not any("embeddings" in name for name in rates)


def test_a_group_of_weights_that_are_not_trained_is_refused():
    with pytest.raises(ConfigError) as caught:
        groups_of(
            with_adapters("bert"),
            groups=[
                {"name": "words", "select": "embeddings"},
                {"name": "others", "select": "rest"},
            ],
        )  # fmt: skip
    assert [problem.where for problem in caught.value.problems] == [
        "headrace.param_groups.groups.0.select"
    ]
    assert "words gets no parameters: beside adapters" in str(caught.value)


def test_names_choose_layers_by_their_ends():
    network = make("bert")
    add_adapters(network, LoraConfig(modules=["attention.output.dense", "value"]))
    adapted = {key.rpartition(".lora_A")[0] for key, _ in network.named_parameters()} - {""}
    assert adapted == {
        f"bert.encoder.layer.{layer}.attention.{end}"
        for layer in (0, 1)
        for end in ("output.dense", "self.value")
    }


def test_names_that_choose_nothing_are_all_listed_with_what_is_there():
    with pytest.raises(ConfigError) as caught:
        add_adapters(
            make("bert"), LoraConfig(modules=["qeury", "value", "LayerNorm", "classifier"])
        )
    texts = [str(problem) for problem in caught.value.problems]
    assert [text.split(":")[0] for text in texts] == [
        f"headrace.model.lora.modules.{number}" for number in (0, 2, 3)
    ]
    assert "Did you mean 'query'?" in texts[0]
    assert "no linear layers (value: LayerNorm)" in texts[1]
    assert all(text.endswith("outside of the head: dense, key, query, value") for text in texts)


def test_a_network_that_peft_refuses_is_an_error_with_the_layers_there_are():
    network = MambaForCausalLM(MambaConfig(**SMALL, **WIDTH, state_size=4))
    with pytest.raises(ConfigError) as caught:
        add_adapters(network, LoraConfig())
    text = str(caught.value)
    assert "'out_proj' is incompatible" in text
    assert text.endswith("Name some of them: dt_proj, in_proj, out_proj, x_proj")


def test_an_output_layer_that_is_tied_to_the_embeddings_has_no_adapter():
    network = GPT2LMHeadModel(NETWORKS["gpt2"])
    add_adapters(network, LoraConfig())
    trained = {key for key, one in network.named_parameters() if one.requires_grad}
    assert all(key.startswith("transformer.h.") and ".lora_" in key for key in trained)


def test_what_a_pretrained_folder_lacks_is_trained_whole(small_encoder):
    """The encoder has no pooler, which the task needs: an adapter to a random one is of no use."""
    tokenizer = load_tokenizer(small_encoder)
    config = ModelConfig(pretrained=str(small_encoder), lora=LoraConfig(rank=2))
    network = build_model(config, MultipleChoice(), tokenizer, seed=1)
    trained = {key for key, one in network.named_parameters() if one.requires_grad}
    assert {key for key in trained if ".lora_" not in key} == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight",
        "classifier.bias",
    }  # fmt: skip
    assert not any("pooler" in key and ".lora_" in key for key in trained)
    assert any("layer.1.output.dense.lora_B" in key for key in trained)


def test_adapters_have_a_seed_of_their_own(small_encoder):
    tokenizer = load_tokenizer(small_encoder)
    config = ModelConfig(pretrained=str(small_encoder), lora=LoraConfig(rank=2))
    first, again, other = (
        dict(build_model(config, MultipleChoice(), tokenizer, seed=1, adapter_seed=seed)
             .named_parameters())
        for seed in (7, 7, 8)
    )  # fmt: skip
    for key in first:
        assert torch.equal(first[key], again[key])
        assert torch.equal(first[key], other[key]) is ("lora_A" not in key), key


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"rank": 0}, "rank"), ({"alpha": 0}, "alpha"), ({"dropout": 1.0}, "dropout"),
        ({"modules": []}, "modules"), ({"modules": "all"}, "modules"), ({"ranks": 4}, "ranks"),
    ],
)  # fmt: skip
def test_settings_are_checked(small_corpus, tmp_path, settings, where):
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.model.lora": settings}
    )
    with pytest.raises(ConfigError, match=rf"headrace\.model\.lora\.{where}"):
        load_run_config(path)


def dry_run(small_corpus, tmp_path, settings):
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.model.lora": settings}
    )
    return main(["train", "--ds_config", str(path), "--dry-run", "--ranks", "1"])


def test_a_dry_run_shows_how_few_parameters_are_trained(small_corpus, tmp_path, capsys):
    assert dry_run(small_corpus, tmp_path, {"rank": 2, "modules": ["query"]}) == 0
    text = capsys.readouterr().out
    head = 32 * 67 + 67
    assert f"trained: {2 * 2 * 64 + head:,} of " in text
    assert "not adapted" in text


def test_frozen_weights_need_no_memory_for_gradients_and_states(small_corpus, tmp_path, capsys):
    wide = {
        "model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 8, "intermediate_size": 2048, "max_position_embeddings": 64,
    }  # fmt: skip
    path = small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "run",
        **{"headrace.model.config": wide, "headrace.model.lora": {"rank": 64}},
    )
    assert main(["train", "--ds_config", str(path), "--dry-run", "--ranks", "2"]) == 0
    text = capsys.readouterr().out
    trained, total = re.search(r"trained: ([\d,]+) of ([\d,]+)", text).groups()
    trained, total = (int(number.replace(",", "")) for number in (trained, total))
    states = dict(re.findall(r"^ZeRO (\d): +[\d.]+ +([\d.]+)", text, re.MULTILINE))
    for zero in "012":
        # gradients, Adam's two numbers and what its step makes, of what is trained alone
        beside_weights = float(states[zero]) * 2**30 - 4 * total
        assert 8 * trained < beside_weights < 21 * trained


def test_without_peft_the_extra_is_named(small_corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert dry_run(small_corpus, tmp_path, {}) == 2
    assert capsys.readouterr().err == (
        "error: environment: headrace.model.lora needs the package peft. "
        "Install it with: pip install 'headrace[lora]'\n"
    )
    assert not (tmp_path / "run").exists()
