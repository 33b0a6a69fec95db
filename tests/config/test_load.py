"""Run configs: what is accepted, and how every mistake is reported."""

import copy
import json

import pytest

from headrace.config import load_run_config
from headrace.config.checks import batch_arithmetic
from headrace.config.mixture import phases_of
from headrace.errors import ConfigError

BASE = {
    "train_batch_size": 32,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
    "headrace": {
        "task": {"type": "token_classification", "labels": "multiconer_v2"},
        "model": {"pretrained": "somewhere"},
        "data": {
            "train": {"en": "a/en", "hi": "a/hi"},
            "validation": {"en": "b/en", "hi": "b/hi"},
        },
        "stages": [
            {"name": "multilingual", "epochs": 2},
            {"name": "monolingual", "for_each": "language", "start_from": "multilingual"},
        ],
    },
}


@pytest.fixture
def load(tmp_path):
    def load_with(change=None, overrides=()):
        data = copy.deepcopy(BASE)
        if change:
            change(data)
        path = tmp_path / "my_run.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        return load_run_config(path, overrides)

    return load_with


def problems_of(call):
    with pytest.raises(ConfigError) as caught:
        call()
    return {problem.where: problem for problem in caught.value.problems}


def test_defaults_are_filled_in_and_the_run_is_named_after_the_file(load):
    config = load()
    assert config.name == "my_run"
    assert str(config.output) == "runs/my_run"
    assert config.headrace.checkpoint.keep_last == 2
    assert config.learning_rate == 1e-3


def test_comments_are_allowed(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("# a comment\n" + json.dumps(BASE), encoding="utf-8")
    assert load_run_config(path).headrace.seed == 0


def test_the_resolved_config_loads_again_to_the_same_run(load, tmp_path):
    config = load(overrides=["headrace.seed=7", "zero_optimization.stage=2"])
    again = tmp_path / "config.json"
    again.write_text(json.dumps(config.resolved()), encoding="utf-8")
    assert load_run_config(again).resolved() == config.resolved()


def test_all_mistakes_are_reported_at_once_with_their_path_and_a_hint(load):
    def change(data):
        data["gradient_clipp1ng"] = 1.0
        data["optimizer"]["params"]["weight_dekay"] = 0.1
        data["headrace"]["sede"] = 3
        data["headrace"]["task"]["max_length"] = 1.5
        data["headrace"]["stages"][0]["epochz"] = 2

    problems = problems_of(lambda: load(change))
    assert "gradient_clipping" in problems["gradient_clipp1ng"].remedy
    assert "weight_decay" in problems["optimizer.params.weight_dekay"].remedy
    assert "seed" in problems["headrace.sede"].remedy
    assert problems["headrace.task.max_length"].value == "1.5"
    assert "epochs" in problems["headrace.stages.0.epochz"].remedy


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (lambda d: d["headrace"]["stages"][1].update(start_from="multi"),
         "headrace.stages.1.start_from", "multilingual"),
        (lambda d: d["headrace"]["stages"][0].update(start_from="monolingual"),
         "headrace.stages.0.start_from", "first stage"),
        (lambda d: d["headrace"]["stages"][0].update(languages=["en", "hy"]),
         "headrace.stages.0.languages", "hi"),
        (lambda d: d["headrace"]["data"]["validation"].pop("hi"),
         "headrace.data.validation.hi", "keep_best"),
        (lambda d: d["headrace"]["stages"].append({"name": "multilingual"}),
         "headrace.stages.2.name", "same name"),
        (lambda d: d["headrace"]["stages"].append(
            {"name": "more", "start_from": "monolingual"}),
         "headrace.stages.2.start_from", "for_each"),
        (lambda d: d["headrace"]["model"].update(config={"model_type": "bert"}),
         "headrace.model", "either"),
        (lambda d: d.update(scheduler={"type": "WarmupLR"}), "scheduler", "headrace.schedule"),
        (lambda d: d.update(fp16={"enabled": True}, bf16={"enabled": True},
                            zero_optimization={"stage": 1}),
         "fp16.enabled", "exclude"),
        (lambda d: d.update(fp16={"enabled": True}), "zero_optimization.stage", "loss scale"),
        (lambda d: d.update(zero_optimization={"stage": 2, "round_robin_gradients": True}),
         "zero_optimization.round_robin_gradients", "exports would be scrambled"),
        (lambda d: d["optimizer"]["params"].update(max_grad_norm=1.0),
         "optimizer.params.max_grad_norm", "gradient_clipping"),
        (lambda d: d.pop("train_batch_size"), "train_batch_size", "missing"),
        (lambda d: d["optimizer"].update(type="AdmaW"), "optimizer.type", "AdamW"),
        (lambda d: d.pop("headrace"), "headrace", "section"),
        (lambda d: d["headrace"].update(task={"type": "multiple_choise"}),
         "headrace.task.type", "Did you mean 'multiple_choice'"),
        (lambda d: d["headrace"].update(task={"max_length": 8}),
         "headrace.task.type", "token_classification or multiple_choice"),
        (lambda d: d["headrace"].update(task={"type": "multiple_choice", "labels": "x"}),
         "headrace.task.labels", "Known here: label_smoothing, max_length, type"),
        (lambda d: d["headrace"].update(task={"type": "multiple_choice", "max_length": 7}),
         "headrace.task.max_length", "greater than or equal to 8"),
        (lambda d: d["headrace"].update(
            task={"type": "multiple_choice"}, batching={"type": "packed"}),
         "headrace.batching.type", "cannot be packed"),
        (lambda d: d["headrace"]["stages"][0].update(mixture={"weights": {"fr": 1.0}}),
         "headrace.stages.0.mixture.weights.fr", "does not have"),
        (lambda d: d["headrace"].update(batching={"type": "tokens"}),
         "headrace.batching.tokens_per_batch", "budget"),
        (lambda d: d["headrace"].update(batching={"type": "tokens", "tokens_per_batch": 127}),
         "headrace.batching.tokens_per_batch", "Raise it to 128"),
        (lambda d: d["headrace"].update(batching={"type": "packed", "pack_length": 100}),
         "headrace.batching.pack_length", "Raise it to 128"),
        (lambda d: d["headrace"].update(batching={"tokens_per_batch": 4096}),
         "headrace.batching.tokens_per_batch", 'type to "tokens"'),
        (lambda d: d["headrace"].update(
            batching={"type": "tokens", "tokens_per_batch": 4096, "pack_length": 512}),
         "headrace.batching.pack_length", 'type to "packed"'),
        (lambda d: d["headrace"].update(batching={"type": "packed", "sort_by_length": False}),
         "headrace.batching.sort_by_length", "always filled by length"),
        (lambda d: d["headrace"].update(batching={"type": "packs"}),
         "headrace.batching.type", "packed"),
    ],
)  # fmt: skip
def test_each_mistake_names_its_place(load, change, where, says):
    problems = problems_of(lambda: load(change))
    assert where in problems
    assert says in str(problems[where])


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.json"
    path.write_text('{"train_batch_size": 1, "train_batch_size": 2}', encoding="utf-8")
    with pytest.raises(ConfigError, match="train_batch_size"):
        load_run_config(path)


def test_broken_hjson_gives_line_and_column(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"a": [1, 2\n  "b": }', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.json:\d+:\d+"):
        load_run_config(path)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        load_run_config(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("headrace.stages.0.epochs=5", lambda c: c.headrace.stages[0].epochs == 5),
        ("optimizer.params.lr=1e-6", lambda c: c.learning_rate == 1e-6),
        ("headrace.model.pretrained=/some/folder",
         lambda c: c.headrace.model.pretrained == "/some/folder"),
        ("headrace.stages.0.mixture.temperature=0.5",
         lambda c: c.headrace.stages[0].mixture.temperature == 0.5),
        ('headrace.stages.0.languages=["en"]',
         lambda c: c.headrace.stages[0].languages == ["en"]),
    ],
)  # fmt: skip
def test_overrides_reach_every_kind_of_value(load, override, value):
    assert value(load(overrides=[override]))


@pytest.mark.parametrize("text", ["nan", "inf", "1_000", "2024-11"])
def test_words_that_only_look_like_numbers_stay_words(load, text):
    assert load(overrides=[f"headrace.output={text}"]).headrace.output == text


def test_bad_overrides_name_themselves(load):
    problems = problems_of(lambda: load(overrides=["headrace.stages.7.epochs=1", "nonsense"]))
    assert "2 items" in problems["--set headrace.stages.7.epochs=1"].what
    assert "--set nonsense" in problems


def test_batch_arithmetic_follows_deepspeed():
    assert batch_arithmetic({"train_batch_size": 64}, 2) == (64, 32, 1)
    section = {"train_batch_size": 64, "train_micro_batch_size_per_gpu": 8}
    assert batch_arithmetic(section, 2) == (64, 8, 4)
    with pytest.raises(ConfigError, match="train_batch_size"):
        batch_arithmetic({"train_batch_size": 10, "train_micro_batch_size_per_gpu": 4}, 2)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d["optimizer"].update(params=3), "optimizer.params"),
        (lambda d: d.update(zero_optimization=3), "zero_optimization"),
        (lambda d: d.update(bfloat16={"enabled": True}), "bfloat16"),
        (lambda d: d.update(zero_optimization={"stage": 5}), "zero_optimization.stage"),
        (lambda d: d.update(zero_optimization={"stag": 1}), "zero_optimization.stag"),
        (lambda d: d.update(fp16={"enabled": True, "los_scale": 0},
                            zero_optimization={"stage": 1}), "fp16.los_scale"),
        (lambda d: d["headrace"]["data"]["train"].update({"a/b": "x"}),
         "headrace.data.train.a/b"),
        (lambda d: d["headrace"]["stages"][0].update(name="tensorboard"), "headrace.stages.0.name"),
        (lambda d: d["headrace"]["stages"][0].update(languages=["en", "en"]),
         "headrace.stages.0.languages"),
        (lambda d: d["headrace"]["stages"].append(
            {"name": "third", "for_each": "language", "start_from": "second"}),
         "headrace.stages.3.languages"),
    ],
)  # fmt: skip
def test_shapes_that_would_fail_late_are_met_early(load, change, where):
    def with_second(data):
        data["headrace"]["stages"].append(
            {"name": "second", "for_each": "language", "languages": ["en"]}
        )
        change(data)

    assert where in problems_of(lambda: load(with_second))


def mixed(stage, **mixture):
    """A change of the mixture of a stage."""
    return lambda data: data["headrace"]["stages"][stage].update(mixture=mixture)


def test_a_mixture_with_bounds_limits_and_phases_is_accepted(load):
    phases = [
        {"from_epoch": 0.5, "weights": {"en": 1}},
        {"from_epoch": 1, "temperature": 0.3, "max_share": 1},
    ]
    headrace = load(mixed(0, max_share=0.7, max_epochs={"hi": 4}, phases=phases)).headrace
    first, second, third = phases_of(headrace.stages[0].mixture)
    assert (first.from_epoch, first.max_share, first.weights) == (0, 0.7, None)
    # A phase keeps what it does not give.
    assert (second.max_share, second.weights) == (0.7, {"en": 1})
    assert (third.max_share, third.weights, third.temperature) == (1, None, 0.3)


@pytest.mark.parametrize(
    ("stage", "mixture", "where", "says"),
    [
        (0, {"max_epochs": {"fr": 3}}, "max_epochs.fr", "Known here: en, hi"),
        (0, {"min_share": {"enn": 0.1}}, "min_share.enn", "Did you mean 'en'?"),
        (0, {"phases": [{"from_epoch": 1, "weights": {"enn": 1}}]}, "phases.0.weights.enn",
         "Did you mean 'en'?"),
        (0, {"phases": [{"from_epoch": 1, "max_share": {"enn": 1}}]}, "phases.0.max_share.enn",
         "Did you mean 'en'?"),
        (0, {"max_share": 0}, "max_share", "more than 0"),
        (0, {"max_share": {"en": 1.5}}, "max_share.en", "1 at most"),
        (0, {"min_share": -0.5}, "min_share", "0 to 1"),
        (0, {"max_epochs": 0}, "max_epochs", "more than 0"),
        (0, {"weights": {"en": 1, "hi": -1}}, "weights.hi", "0 or more"),
        (0, {"weights": {"en": 1}}, "weights.hi", "nothing is drawn"),
        (0, {"weights": {"en": 1}, "phases": [{"from_epoch": 1, "weights": {"en": 2}}]},
         "weights.hi", "nothing is drawn"),
        (0, {"phases": [{"from_epoch": 1, "temperature": 0.5, "weights": {"en": 2}}]},
         "phases.0", "either"),
        (0, {"phases": [{"from_epoch": 2}]}, "phases.0.from_epoch", "over after 2 epochs"),
        (0, {"phases": [{"from_epoch": 1.5}, {"from_epoch": 1.5}]}, "phases.1.from_epoch",
         "later than the one before"),
        (0, {"phases": [{"from_epoch": 0}]}, "phases.0.from_epoch", "greater than 0"),
        (0, {"phases": [{"from_epoch": 1, "temprature": 1}]}, "phases.0.temprature",
         "Did you mean 'temperature'?"),
        (1, {"max_share": 0.5}, "max_share", "one language"),
        (1, {"phases": [{"from_epoch": 0.5}]}, "phases", "one language"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_mixture_names_its_place(load, stage, mixture, where, says):
    (problem,) = problems_of(lambda: load(mixed(stage, **mixture))).values()
    assert problem.where == f"headrace.stages.{stage}.mixture.{where}"
    assert says in str(problem)


def test_the_shard_cache(load):
    def with_cache(**settings):
        return lambda data: data["headrace"]["data"].update(shard_cache=settings)

    assert load().headrace.data.shard_cache is None
    assert load(with_cache()).headrace.data.shard_cache.limit_bytes == 50 * 10**9
    cache = load(with_cache(folder="x/shards", limit="1.5 TiB")).headrace.data.shard_cache
    assert (cache.folder, cache.limit_bytes) == ("x/shards", 3 * 2**39)
    assert load(with_cache(limit=4096)).headrace.data.shard_cache.limit_bytes == 4096
    assert load(with_cache(limit=None)).headrace.data.shard_cache.limit_bytes is None
    for limit in ("much", 0, -1, True, 1.5):
        with pytest.raises(ConfigError, match=r"headrace\.data\.shard_cache\.limit"):
            load(with_cache(limit=limit))
    with pytest.raises(ConfigError, match=r"shard_cache\.folder: a local folder is needed"):
        load(with_cache(folder="s3://bucket/cache"))


def test_checkpoint_settings_that_do_not_fit_are_refused(load):
    def change(data):
        offload = {"device": "nvme", "nvme_path": "/local"}
        data["zero_optimization"] = {"stage": 3, "offload_optimizer": offload}
        data["checkpoint"] = {"writer": {"type": "fast"}}
        data["headrace"]["data"].pop("validation")
        data["headrace"]["stages"][0]["keep_best"] = "last"
        data["headrace"]["stages"][1]["keep_best"] = "last"
        data["headrace"]["checkpoint"] = {"asynchronous": True, "keep_best": 1}

    assert {
        "headrace.checkpoint.asynchronous", "headrace.checkpoint.keep_best", "checkpoint.writer",
    } == set(problems_of(lambda: load(change)))  # fmt: skip
