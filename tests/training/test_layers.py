"""Where parameters are, in small networks of many kinds, with the heads that they have."""

import pytest
import torch
import transformers

from headrace.training.layers import Place, UnknownLayersError, discover_layers, parameter_names

PLAIN = {
    "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA = {**PLAIN, "num_key_value_heads": 2}
NETWORKS = {
    # model type: settings, layers of each stack, embeddings, parameters behind the layers
    "bert": (PLAIN, {"encoder": 3}, 5, 0),
    "roberta": (PLAIN, {"encoder": 3}, 5, 0),
    "xlm-roberta": (PLAIN, {"encoder": 3}, 5, 0),
    "camembert": (PLAIN, {"encoder": 3}, 5, 0),
    "electra": ({**PLAIN, "embedding_size": 8}, {"encoder": 3}, 7, 0),
    "deberta-v2": (
        {**PLAIN, "relative_attention": True, "pos_att_type": ["p2c"]}, {"encoder": 3}, 5, 0,
    ),
    "mpnet": (PLAIN, {"encoder": 3}, 5, 0),
    "modernbert": ({**PLAIN, "cls_token_id": 1, "sep_token_id": 2}, {"layers": 3}, 2, 1),
    "distilbert": (
        {"vocab_size": 64, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 16},
        {"transformer": 3}, 4, 0,
    ),
    "xlnet": (
        {"vocab_size": 64, "d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 16},
        {"layer": 3}, 2, 0,
    ),
    "gpt2": (
        {"vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 2, "bos_token_id": 1,
         "eos_token_id": 2},
        {"h": 3}, 2, 2,
    ),
    "llama": (LLAMA, {"layers": 3}, 1, 1),
    "qwen3": ({**LLAMA, "head_dim": 8}, {"layers": 3}, 1, 1),
    "mixtral": ({**LLAMA, "num_local_experts": 2}, {"layers": 3}, 1, 1),
    "opt": (
        {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
         "ffn_dim": 16, "word_embed_proj_dim": 16},
        {"decoder": 3}, 2, 2,
    ),
    "mamba": (
        {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3, "state_size": 4},
        {"layers": 3}, 1, 1,
    ),
}  # fmt: skip
T5 = {
    "vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 3,
    "num_decoder_layers": 2, "num_heads": 2,
}  # fmt: skip
BART = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}  # fmt: skip
HEADS = ("AutoModelForTokenClassification", "AutoModelForMultipleChoice", "AutoModelForCausalLM")
NO_MULTIPLE_CHOICE = {"gpt2", "llama", "qwen3", "mixtral", "opt", "mamba"}
NO_TOKENS = {"opt", "mamba"}
NO_CAUSAL = {"deberta-v2", "distilbert", "mpnet", "modernbert"}


def make(auto, kind, settings):
    """A network without memory for its weights."""
    config = transformers.AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        return getattr(transformers, auto).from_config(config)


def of_part(layout, part, stack=None):
    return {
        name
        for name, place in layout.places.items()
        if place.part == part and stack in (None, place.stack)
    }


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("auto", HEADS)
def test_stacks_embeddings_and_head_of_networks_with_one_stack(kind, auto):
    missing = {
        HEADS[0]: NO_TOKENS, HEADS[1]: NO_MULTIPLE_CHOICE, HEADS[2]: NO_CAUSAL
    }[auto]  # fmt: skip
    settings, stacks, embeddings, after = NETWORKS[kind]
    if kind in missing:
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            make(auto, kind, settings)
        return
    model = make(auto, kind, settings)
    layout = discover_layers(model)
    assert layout.stacks == stacks
    # every parameter has one place, and tied ones count once
    assert set(layout.places) == set(parameter_names(model))
    assert len(layout.places) == len(list(model.parameters()))
    assert len(of_part(layout, "embeddings")) == embeddings
    body = model.base_model_prefix
    outside = {name for name in layout.places if not name.startswith(f"{body}.")}
    assert of_part(layout, "head") == outside
    if auto != "AutoModelForCausalLM":
        assert outside
    poolers = {name for name in of_part(layout, "after") if ".pooler." in name}
    assert len(of_part(layout, "after") - poolers) == after
    sizes = {
        number: sum(place.layer == number for place in layout.places.values())
        for number in range(3)
    }
    assert min(sizes.values()) > 0
    assert sizes[1] == sizes[2]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_bare_network_has_no_head(kind):
    settings, stacks, embeddings, _ = NETWORKS[kind]
    layout = discover_layers(make("AutoModel", kind, settings))
    assert layout.stacks == stacks
    assert len(of_part(layout, "embeddings")) == embeddings
    assert not of_part(layout, "head")


@pytest.mark.parametrize("tied", [True, False])
def test_t5_has_two_stacks_and_its_output_layer_is_the_head_unless_it_is_tied(tied):
    model = make("AutoModelForSeq2SeqLM", "t5", T5)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(64, 16))
    layout = discover_layers(model)
    assert layout.stacks == {"encoder": 3, "decoder": 2}
    assert of_part(layout, "embeddings") == {"shared.weight"}
    assert of_part(layout, "head") == (set() if tied else {"lm_head.weight"})
    assert of_part(layout, "after", "decoder") == {"decoder.final_layer_norm.weight"}
    assert layout.places["decoder.block.1.layer.0.SelfAttention.q.weight"] == Place(
        "layer", "decoder", 1
    )


def test_t5_tokens_have_the_encoder_alone():
    layout = discover_layers(make("AutoModelForTokenClassification", "t5", T5))
    assert layout.stacks == {"encoder": 3}
    assert of_part(layout, "head") == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    "auto", ["AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification", "AutoModel"]
)
def test_bart_has_embeddings_beside_each_stack(auto):
    model = make(auto, "bart", BART)
    layout = discover_layers(model)
    assert layout.stacks == {"encoder": 3, "decoder": 2}
    prefix = "" if auto == "AutoModel" else "model."
    assert of_part(layout, "embeddings", "decoder") == {
        f"{prefix}decoder.{name}"
        for name in (
            "embed_positions.weight", "layernorm_embedding.weight", "layernorm_embedding.bias"
        )
    }  # fmt: skip
    assert f"{prefix}shared.weight" in of_part(layout, "embeddings")
    assert not of_part(layout, "after")


def test_bart_as_a_decoder_alone():
    layout = discover_layers(make("AutoModelForCausalLM", "bart", BART))
    assert layout.stacks == {"decoder": 2}


@pytest.mark.parametrize("kind", ["gpt2", "opt", "mamba", "bert", "xlm-roberta", "xlnet"])
def test_an_output_layer_that_is_tied_to_the_embeddings_is_an_embedding(kind):
    """Also where the network registers its head before its body, as XLM-R does."""
    model = make("AutoModelForCausalLM", kind, NETWORKS[kind][0])
    output = model.get_output_embeddings().weight
    (names,) = [
        names
        for names in parameter_names(model).values()
        if dict(model.named_parameters(remove_duplicate=False))[names[0]] is output
    ]
    assert len(names) > 1
    assert discover_layers(model).places[names[0]].part == "embeddings"


def test_shared_layers_are_refused():
    model = make("AutoModelForTokenClassification", "albert", {**PLAIN, "embedding_size": 8})
    with pytest.raises(UnknownLayersError, match="stacks of 1 layers, its config says 3"):
        discover_layers(model)


def test_blocks_of_layers_are_refused():
    settings = {
        "vocab_size": 64, "block_sizes": [2, 2], "d_model": 16, "n_head": 2, "d_head": 8,
        "d_inner": 16,
    }  # fmt: skip
    model = make("AutoModelForTokenClassification", "funnel", settings)
    with pytest.raises(UnknownLayersError, match="its config says 4"):
        discover_layers(model)
