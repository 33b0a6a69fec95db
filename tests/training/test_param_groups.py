"""Parameter groups of the config: who gets which learning rate, and what is refused."""

import json

import pytest
import torch
import transformers

from headrace.config.learning_rate_checks import check_param_groups
from headrace.config.learning_rates import ParamGroupsConfig, ScheduleConfig
from headrace.errors import ConfigError, HeadraceError
from headrace.training.param_groups import Settings, make_groups
from headrace.training.selectors import layer_numbers

WHERE = "headrace.param_groups"
BASE = Settings(2e-5, 0.01, ScheduleConfig())
BERT = {
    "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
    "intermediate_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 3,
    "num_decoder_layers": 2, "num_heads": 2,
}  # fmt: skip


def make_network(kind="bert", auto="AutoModelForTokenClassification", **changes):
    settings = {**(T5 if kind == "t5" else BERT), **changes}
    with torch.device("meta"):
        return getattr(transformers, auto).from_config(
            transformers.AutoConfig.for_model(kind, **settings)
        )


def read(**settings):
    """The section as it is read from a file."""
    return ParamGroupsConfig.model_validate_json(json.dumps(settings))


def group(name, select, **settings):
    return {"name": name, "select": select, **settings}


def make(network=None, **settings):
    return make_groups(network or make_network(), read(**settings), BASE, WHERE)


def refused(network=None, **settings):
    """The problems of a section, those that need no network first, as `path: text`."""
    problems = check_param_groups(read(**settings), WHERE)
    try:
        make(network, **settings)
    except ConfigError as error:
        problems += error.problems
    return [str(problem).removeprefix(f"{WHERE}.") for problem in problems]


def rates(groups):
    """Learning rate of each parameter; None: frozen."""
    return {
        name: row.settings.learning_rate if row.settings else None
        for row in groups.rows
        for name in row.parameters
    }


# Without groups -----------------------------------------------------------------------------------


def test_without_groups_weights_decay_and_biases_and_norms_do_not():
    network = make_network()
    groups = make(network)
    by_name = {item["name"]: item for item in groups.for_optimizer(network)}
    assert list(by_name) == ["decay", "no_decay"]
    assert (by_name["decay"]["weight_decay"], by_name["no_decay"]["weight_decay"]) == (0.01, 0.0)
    exempt = {id(parameter) for parameter in by_name["no_decay"]["params"]}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in exempt) == ("bias" in name or "LayerNorm" in name)


def test_equal_settings_stay_two_groups_where_the_config_has_none():
    """Checkpoints of runs without weight decay have two groups."""
    base = Settings(1e-3, 0.0, ScheduleConfig())
    groups = make_groups(make_network(), ParamGroupsConfig(), base, WHERE)
    assert [rows[0].name for _, rows in groups.merged] == ["decay", "no_decay"]


def test_frozen_parameters_and_empty_groups_are_left_out():
    network = make_network()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name == "classifier.bias")
    groups = make(network)
    assert [row.name for row in groups.rows] == ["no_decay"]


# Selection ----------------------------------------------------------------------------------------


def test_the_first_group_that_selects_a_parameter_has_it():
    network = make_network()
    groups = make(
        network,
        groups=[
            group("norms", {"regex": r"\.LayerNorm\."}, lr=1e-6, schedule={"type": "constant"}),
            group("embeddings", "embeddings", freeze=True),
            group("low", {"layers": "0-1"}, lr_mult=0.5),
            group("top", {"layers": "-2:"}, weight_decay=0.1),
            group("head", "head", lr=1e-3),
        ],
    )
    found = rates(groups)
    assert set(found) == {name for name, _ in network.named_parameters()}
    for name, rate in found.items():
        if "LayerNorm" in name:
            assert rate == 1e-6
        elif "embeddings" in name:
            assert rate is None
        elif "layer.0." in name or "layer.1." in name:
            assert rate == 1e-5
        elif "layer" in name:
            assert rate == 2e-5
        else:
            assert rate == 1e-3
    (decaying,) = [row for row in groups.rows if row.name == "top"]
    assert decaying.settings.weight_decay == 0.1
    assert {row.settings.schedule.type for row in groups.rows if row.group == "norms"} == {
        "constant"
    }


def test_frozen_parameters_take_no_gradients_and_are_in_no_group_of_the_optimizer():
    network = make_network()
    groups = make(
        network,
        groups=[group("low", {"layers": "0-1"}, freeze=True), group("others", "rest")],
    )
    in_optimizer = {
        id(parameter) for item in groups.for_optimizer(network) for parameter in item["params"]
    }
    for name, parameter in network.named_parameters():
        frozen = "layer.0." in name or "layer.1." in name
        assert parameter.requires_grad is not frozen
        assert (id(parameter) in in_optimizer) is not frozen


def test_groups_with_equal_settings_are_one_group_of_the_optimizer():
    network = make_network()
    groups = make(
        network,
        groups=[
            group("embeddings", "embeddings", lr=1e-6),
            group("low", {"layers": "0-1"}, lr=1e-6),
            group("others", "rest"),
        ],
    )
    engine = groups.for_optimizer(network)
    assert [item["name"] for item in engine] == [
        "embeddings+low", "embeddings (no decay)+low (no decay)", "others", "others (no decay)",
    ]  # fmt: skip
    assert sum(len(item["params"]) for item in engine) == len(list(network.parameters()))
    table = groups.describe()
    assert [line.split()[0] for line in table.splitlines()[1:-1:2]] == [
        "embeddings", "low", "others",
    ]  # fmt: skip
    assert "groups of the optimizer: 4" in table


def test_unmatched_parameters_have_the_base_rate_when_that_is_asked_for():
    found = rates(make(groups=[group("head", "head", lr=1e-3)], unmatched="base"))
    assert {rate for name, rate in found.items() if "classifier" not in name} == {2e-5}


def test_stacks_of_an_encoder_decoder():
    groups = make(
        make_network("t5", "AutoModelForSeq2SeqLM"),
        groups=[
            group("top", {"stack": "decoder", "layers": -1}, lr=1e-3),
            group("decoder", {"stack": "decoder"}, lr=1e-4),
            group("norm", {"part": "after", "stack": "encoder"}, lr=1e-5),
            group("others", "rest", lr=1e-6),
        ],
    )
    for name, rate in rates(groups).items():
        expected = 1e-6
        if "decoder.block" in name:
            expected = 1e-3 if "block.1." in name else 1e-4
        elif name == "encoder.final_layer_norm.weight":
            expected = 1e-5
        assert rate == expected, name


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (3, [3]), (-1, [11]), ("3", [3]), ("-1", [11]), ("0-1", [0, 1]), ("-2:", [10, 11]),
        (":2", [0, 1]), ("2:5", [2, 3, 4]), (":-10", [0, 1]), (":", list(range(12))),
        ([0, -1, 4], [0, 11, 4]),
    ],
)  # fmt: skip
def test_layers_are_named_as_in_python_or_by_their_first_and_last(text, numbers):
    assert layer_numbers(text, 12) == numbers


@pytest.mark.parametrize(
    "text", ["12", 12, -13, "10-12", "10:13", "-13:", "3:3", "5:2", "2-1", [0, 12]]
)
def test_layers_outside_the_stack_are_refused(text):
    with pytest.raises(ValueError, match=r"no layer -?1[23]|range"):
        layer_numbers(text, 12)


# Layer-wise decay ---------------------------------------------------------------------------------


def test_layer_wise_decay_has_a_power_for_each_layer():
    for name, rate in rates(make(llrd=0.9)).items():
        if "embeddings" in name:
            power = 5
        elif ".layer." in name:
            power = 4 - int(name.split(".layer.")[1].split(".")[0])
        else:
            power = 0
        assert rate == pytest.approx(2e-5 * 0.9**power), name


def test_a_decoder_is_above_its_encoder():
    found = rates(make(make_network("t5", "AutoModelForSeq2SeqLM"), llrd=0.5))
    assert found["encoder.block.0.layer.0.SelfAttention.q.weight"] == pytest.approx(2e-5 / 32)
    assert found["encoder.block.2.layer.0.SelfAttention.q.weight"] == pytest.approx(2e-5 / 8)
    assert found["decoder.block.1.layer.0.SelfAttention.q.weight"] == pytest.approx(1e-5)
    assert found["shared.weight"] == pytest.approx(2e-5 / 64)


# Tied weights -------------------------------------------------------------------------------------


def test_tied_weights_follow_the_embeddings_and_the_table_says_so():
    network = make_network("gpt2", "AutoModelForCausalLM", n_layer=4, n_embd=16, n_head=2)
    groups = make(network, groups=[group("words", "embeddings", lr=1e-6), group("others", "rest")])
    assert rates(groups)["transformer.wte.weight"] == 1e-6
    assert (
        "lm_head.weight is tied to transformer.wte.weight and follows it in group words"
        in groups.describe()
    )


def test_a_head_that_is_tied_is_no_group():
    network = make_network("gpt2", "AutoModelForCausalLM", n_layer=4, n_embd=16, n_head=2)
    (problem,) = refused(network, groups=[group("head", "head")], unmatched="base")
    assert problem.startswith("groups.0.select: the head has no parameters of its own: lm_head")
    (problem,) = refused(network, groups=[group("out", {"regex": "lm_head"})], unmatched="base")
    assert "lm_head.weight is tied to transformer.wte.weight" in problem


# Errors -------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_said_at_once():
    problems = refused(
        groups=[
            group("a", {"stack": "decodr", "layers": 0}),
            group("b", {"layers": "3:9"}),
            group("c", {"regex": r"encoder\.layr\.0\.attention"}),
            group("low", {"layers": "0-1"}),
            group("again", {"layers": 1}),
            group("both", "head", lr=1e-3, lr_mult=2.0),
            group("frozen", "embeddings", freeze=True, lr=1e-3),
        ]
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "groups.5.lr_mult", "groups.6.lr", "groups.0.select.stack", "groups.1.select.layers",
        "groups.2.select.regex", "groups.4.select",
    ]  # fmt: skip
    assert "The network's stacks: encoder (4 layers)" in problems[2]
    assert "there is no layer 9" in problems[3]
    assert "The nearest name is bert.encoder.layer.0.attention" in problems[4]
    assert "taken by low" in problems[5]


def test_parameters_in_no_group_are_named():
    (problem,) = refused(groups=[group("all", {"layers": ":"}), group("head", "head")])
    assert problem.startswith("groups: parameters are in no group")
    assert "bert.embeddings.word_embeddings.weight" in problem
    assert 'set headrace.param_groups.unmatched to "base"' in problem


def test_a_rest_of_nothing_and_a_network_that_is_all_frozen_are_refused():
    (problem,) = refused(groups=[group("all", {"regex": "."}), group("more", "rest")])
    assert problem.startswith("groups.1.select: group more gets no parameters")
    assert "taken by all" in problem
    (problem,) = refused(groups=[group("all", "rest", freeze=True)])
    assert "nothing is left to train" in problem


def test_layers_of_two_stacks_need_the_name_of_one():
    network = make_network("t5", "AutoModelForSeq2SeqLM")
    (problem,) = refused(network, groups=[group("low", {"layers": 0})], unmatched="base")
    assert "groups.0.select.stack: the network has more than one stack" in problem
    assert "encoder (3 layers), decoder (2 layers)" in problem


def test_networks_that_share_layers_can_be_grouped_by_names_alone():
    network = make_network("albert", embedding_size=8)
    (problem,) = refused(network, llrd=0.9)
    assert problem.startswith("llrd: the layers of AlbertForTokenClassification cannot be told")
    groups = make(network, groups=[group("core", {"regex": "encoder"}, lr=1e-3)], unmatched="base")
    assert {rate for name, rate in rates(groups).items() if "encoder" in name} == {1e-3}


@pytest.mark.parametrize(
    ("settings", "path", "what"),
    [
        ({"llrd": 0.9, "distribution": "file.json"}, WHERE, "in one way only"),
        ({"unmatched": "base"}, "unmatched", "only with groups"),
        ({"split": "paper-text"}, "split", "only with distribution"),
        ({"rescale": True}, "rescale", "only with distribution"),
        ({"distribution": [1e-5] * 9, "split": "paper-text"}, "distribution", "9 of them"),
        ({"distribution": [1e-5] * 10}, "split", "how the numbers are dealt out"),
        ({"distribution": "file.json", "split": "paper-text"}, "split", "says itself"),
        ({"groups": [group("a", {})]}, "groups.0.select", "in one way"),
        ({"groups": [group("a", {"part": "head", "layers": 1})]}, "groups.0.select", "in one way"),
        ({"groups": [group("a", {"regex": "("})]}, "groups.0.select.regex", "not a regular"),
        (
            {"groups": [group("a", {"part": "head", "stack": "encoder"})]},
            "groups.0.select.stack", "belong to a stack",
        ),
        (
            {"groups": [group("a", "head"), group("a", "rest")]},
            "groups.1.name", "two groups have the same name",
        ),
        ({"groups": [group("base", "head")], "unmatched": "base"}, "groups.0.name", "this name"),
        (
            {"groups": [group("a", "rest", schedule={"type": "restarts"})]},
            "groups.0.schedule.cycles", "need a number of cycles",
        ),
        (
            {"groups": [group("a", "rest", freeze=True, weight_decay=0.1)]},
            "groups.0.weight_decay", "do not change",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_without_a_network(settings, path, what):
    (problem,) = check_param_groups(read(**settings), WHERE)
    assert problem.where == (path if path == WHERE else f"{WHERE}.{path}")
    assert what in problem.what or what in str(problem.value)


# The optimizer ------------------------------------------------------------------------------------


@pytest.fixture
def trained():
    """Groups with schedules of their own, and an optimizer that has them."""
    network = transformers.AutoModelForTokenClassification.from_config(
        transformers.AutoConfig.for_model("bert", **BERT)
    )
    groups = make(
        network,
        groups=[
            group("low", {"layers": "0-1"}, lr=1e-3, schedule={"type": "linear"}),
            group("frozen", "embeddings", freeze=True),
            group("others", "rest", lr=1e-2, schedule={"type": "constant"}),
        ],
    )
    return groups, torch.optim.AdamW(groups.for_optimizer(network))


def test_each_group_has_its_own_schedule_and_factors_are_not_compounded(trained):
    groups, optimizer = trained
    for _ in range(2):
        assert groups.set_learning_rates(optimizer, 5, 10) == 1e-2
        assert groups.by_name(optimizer) == {"low": 5e-4, "others": 1e-2}


@pytest.mark.parametrize("key", ["base_lr", "weight_decay", "lr", "name"])
def test_a_changed_group_is_noticed(trained, key):
    groups, optimizer = trained
    groups.check(optimizer, groups.base_rates)
    optimizer.param_groups[1][key] = 0.4
    with pytest.raises(HeadraceError, match=r"low \(no decay\).*0\.4"):
        groups.check(optimizer, groups.base_rates)


def test_a_lost_group_is_noticed(trained):
    groups, optimizer = trained
    del optimizer.param_groups[0]
    with pytest.raises(HeadraceError, match="has 3 parameter groups, the config 4"):
        groups.check(optimizer)


def test_the_table_counts_parameters(trained):
    groups, _ = trained
    lines = groups.describe().splitlines()
    assert lines[0].split() == [
        "group", "tensors", "parameters", "lr", "weight", "decay", "schedule",
    ]  # fmt: skip
    (frozen,) = [line for line in lines if line.startswith("frozen")]
    assert frozen.split()[1:] == ["5", "9,280", "frozen", "-", "-"]
    (others,) = [line for line in lines if line.startswith("others ") and "no decay" not in line]
    assert others.split()[3:] == ["0.01", "0.01", "constant"]
