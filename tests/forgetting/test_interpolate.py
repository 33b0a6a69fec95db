"""Models between two models: their weights, their answers, and the choice among them."""

import json
import re
import shutil

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultipleChoice

from headrace.cli import main
from headrace.config import load_run_config
from headrace.errors import ConfigError
from headrace.forgetting.interpolate import GRID, interpolate, mix
from headrace.training.export import read_facts
from headrace.training.inference import load_model
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

SHAPE = (4, 3)
NUMBERS = st.floats(-1e6, 1e6, width=32)
MATRICES = arrays.arrays(np.float32, SHAPE, elements=NUMBERS)
SHARES = st.floats(0, 1)


@given(MATRICES, MATRICES, SHARES, MATRICES)
def test_the_answers_of_a_linear_network_are_mixed_as_its_weights_are(first, second, alpha, inputs):
    ends = torch.from_numpy(first), torch.from_numpy(second)
    mixed = mix({"weight": ends[0]}, {"weight": ends[1]}, alpha)["weight"].double()
    read = torch.from_numpy(inputs).double()
    wanted = (1 - alpha) * (read @ ends[0].double().T) + alpha * (read @ ends[1].double().T)
    size = float(max(one.abs().max() for one in ends)) * float(read.abs().max())
    assert torch.allclose(read @ mixed.T, wanted, rtol=0, atol=1e-6 * size * SHAPE[1])


@given(MATRICES, MATRICES, SHARES)
def test_ends_and_equal_weights_are_kept_to_the_bit(first, second, alpha):
    ends = {"weight": torch.from_numpy(first)}, {"weight": torch.from_numpy(second)}
    for share, end in zip((0, 1), ends, strict=True):
        found = mix(*ends, share)["weight"]
        assert found.numpy().tobytes() == end["weight"].numpy().tobytes()
        assert found.data_ptr() != end["weight"].data_ptr()
    assert torch.equal(mix(ends[0], ends[0], alpha)["weight"], ends[0]["weight"])


def test_whole_numbers_are_not_mixed():
    weights = {"weight": torch.zeros(2), "positions": torch.tensor([3, 4])}
    assert torch.equal(mix(weights, weights, 0.3)["positions"], weights["positions"])


@pytest.fixture(scope="module")
def stages(choice_corpus, world, tmp_path_factory):
    """Exports of two stages: the first has hardly learned, the second answers well."""
    folder = tmp_path_factory.mktemp("interpolate")
    stages = [
        {"name": "first", "max_steps": 2},
        {"name": "second", "epochs": 8, "start_from": "first"},
    ]
    config = load_run_config(
        choice_corpus.write_config(
            folder / "run.json", folder / "run", **{"headrace.stages": stages}
        )
    )
    train_in_group(config, expand_stages(config), world, StopFlag())
    return [folder / "run" / stage / "all" / "export" for stage in ("first", "second")]


@pytest.fixture(scope="module")
def sources(choice_corpus):
    return {"dev": choice_corpus.source("dev"), "train": choice_corpus.source("train")}


@pytest.fixture(scope="module")
def chosen(stages, sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chosen")
    output = folder / "new" / "between"
    grid = (0.0, 0.4, 0.7, 1.0)
    cache = folder / "cache"
    result = interpolate(*stages, output, validation=sources, grid=grid, cache_dir=cache)
    return result, output, cache


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_are_the_models_to_the_bit(stages, tmp_path, end):
    result = interpolate(*stages, tmp_path / "end", alpha=end)
    assert (result.alpha, result.trials) == (end, ())
    ours, theirs = weights(tmp_path / "end"), weights(stages[end])
    assert ours.keys() == theirs.keys()
    assert all(ours[key].numpy().tobytes() == theirs[key].numpy().tobytes() for key in theirs)


def test_logits_of_models_that_differ_in_a_linear_head_are_mixed(stages, tmp_path):
    """The golden test through exports: one body, two heads."""
    other = tmp_path / "other"
    shutil.copytree(stages[1], other)
    state = weights(other)
    for key in state:
        if key.startswith("classifier."):
            state[key] = 3 * torch.flip(state[key], dims=(-1,)) + 1
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    interpolate(stages[1], other, tmp_path / "mixed", alpha=0.3)
    ids = torch.arange(4, 16).reshape(1, 2, 6)
    first, second, mixed = (
        AutoModelForMultipleChoice.from_pretrained(folder).eval()(input_ids=ids).logits
        for folder in (stages[1], other, tmp_path / "mixed")
    )
    assert (first - second).abs().min() > 0.1
    assert torch.allclose(mixed, 0.7 * first + 0.3 * second, atol=1e-5)
    body = [key for key in state if not key.startswith("classifier.")]
    assert all(torch.equal(weights(tmp_path / "mixed")[key], state[key]) for key in body)


def test_every_weight_is_between_those_of_the_models(stages, chosen):
    first, second = map(weights, stages)
    for key, value in weights(chosen[1]).items():
        wanted = (1 - chosen[0].alpha) * first[key].double() + chosen[0].alpha * second[
            key
        ].double()
        assert torch.allclose(value.double(), wanted, atol=1e-6)


def test_the_share_with_the_best_mean_over_the_sources_is_chosen(chosen):
    result, _, _ = chosen
    assert [trial.alpha for trial in result.trials] == [0.0, 0.4, 0.7, 1.0]
    means = {}
    for trial in result.trials:
        scores = [trial.metrics[source]["accuracy"] for source in ("dev", "train")]
        means[trial.alpha] = sum(scores) / 2
        assert trial.score == pytest.approx(means[trial.alpha])
    assert result.alpha == max(means, key=lambda share: (means[share], share))
    assert means[0.0] < means[1.0]


def test_the_scores_are_those_of_the_new_export(chosen, sources, tmp_path, capsys):
    result, output, cache = chosen
    data = [f"{source}={url}" for source, url in sources.items()]
    arguments = ["evaluate", str(output), "--data", *data, "--json", "-", "--cache", str(cache)]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)["languages"]
    (measured,) = [trial for trial in result.trials if trial.alpha == result.alpha]
    for source in sources:
        assert found[source]["metrics"] == measured.metrics[source]


def test_the_export_says_where_it_comes_from(stages, chosen, tmp_path):
    result, output, _ = chosen
    facts = read_facts(output)
    mixed = facts["interpolation"]
    assert mixed["alpha"] == result.alpha
    assert [one["stage"] for one in mixed["models"]] == ["first", "second"]
    assert [one["folder"] for one in mixed["models"]] == list(map(str, stages))
    assert [one["alpha"] for one in mixed["trials"]] == [0.0, 0.4, 0.7, 1.0]
    assert facts["languages"] == ["en"]
    assert facts["max_length"] == 20
    card = (output / "README.md").read_text()
    assert f"{result.alpha:g} of that of run: second / all" in card
    again = interpolate(output, stages[0], tmp_path / "again", alpha=0.5)
    assert again.alpha == 0.5
    assert "multiple choice" in (tmp_path / "again" / "README.md").read_text()


def test_a_mixture_is_a_model_like_any_other(chosen):
    model = load_model(chosen[1])
    assert model.max_length == 20
    assert model.language == "en"


def test_equally_good_shares_give_the_larger_one(stages, sources, tmp_path):
    result = interpolate(
        stages[1], stages[1], tmp_path / "same",
        validation={"dev": sources["dev"]}, grid=(0.5, 0.2), cache_dir=tmp_path / "cache",
    )  # fmt: skip
    assert result.alpha == 0.5
    assert GRID[0] == 0
    assert GRID[-1] == 1


def changed(folder, source, config=(), facts=(), tensors=None):
    """A copy of an export with other settings, facts or weights."""
    shutil.copytree(source, folder)
    for name, values in (("config.json", config), ("headrace.json", facts)):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **dict(values)}))
    if tensors is not None:
        state = tensors(weights(folder))
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_all_differences_are_listed(stages, tmp_path, small_corpus):
    other = changed(
        tmp_path / "other",
        stages[1],
        config={"layer_norm_eps": 0.1, "hidden_act": "relu", "attention_probs_dropout_prob": 0.3},
    )
    for file in small_corpus.tokenizer.glob("token*"):
        shutil.copy(file, other)
    with pytest.raises(ConfigError) as caught:
        interpolate(stages[0], other, tmp_path / "mixed", alpha=0.5)
    texts = [str(problem) for problem in caught.value.problems]
    assert [re.split(r" \(|\. ", text.split(": ")[1])[0] for text in texts] == [
        "the models differ in hidden_act",
        "the models differ in layer_norm_eps",
        "the models have different tokenizers",
    ]
    assert "'gelu', 'relu'" in texts[0]
    assert all(str(other) in text for text in texts)
    assert not (tmp_path / "mixed").exists()


def test_networks_of_another_width_name_setting_and_tensors(stages, tmp_path):
    def wider(state):
        ends = ("intermediate.dense.weight", "intermediate.dense.bias", ".output.dense.weight")
        return {
            key: torch.zeros([80 if size == 64 else size for size in value.shape])
            if key.endswith(ends) and 64 in value.shape
            else value
            for key, value in state.items()
        }

    other = changed(tmp_path / "o", stages[1], config={"intermediate_size": 80}, tensors=wider)
    with pytest.raises(ConfigError) as caught:
        interpolate(stages[0], other, tmp_path / "mixed", alpha=0.5)
    text = str(caught.value)
    assert "differ in intermediate_size" in text
    assert "weights have different shapes (value: bert.encoder.layer.0.intermediate" in text
    assert text.count("\n") == 1
    assert "and 1 more" in text


def test_models_for_different_tasks_are_refused(stages, tmp_path):
    names = ["O", "B-A", "I-A"]
    other = changed(
        tmp_path / "other",
        stages[1],
        config={
            "architectures": ["BertForTokenClassification"],
            "id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)},
        },
        facts={"task": "token_classification", "label_set": "own", "families": {"A": "A"}},
        tensors=lambda state: {
            **{key: value for key, value in state.items() if "pooler" not in key},
            "classifier.weight": torch.zeros(3, 32), "classifier.bias": torch.zeros(3),
        },
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"different tasks .*multiple_choice, token_classification"
    ):
        interpolate(stages[0], other, tmp_path / "mixed", alpha=0.5)


def refused(capsys, *arguments):
    assert main(["interpolate", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_problems_of_settings_are_listed_together(stages, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    error = refused(
        capsys, tmp_path / "nowhere", stages[1], "--output", tmp_path / "mine", "--choose",
        "--grid", "0.5", "1.5",
    )  # fmt: skip
    lines = error.splitlines()
    assert len(lines) == 4
    assert lines[0] == "error: --grid: a share is a number from 0 to 1 (value: 1.5)"
    assert lines[1].startswith("error: --validation: alpha is chosen on validation data")
    assert lines[2].startswith("error: --output: the folder holds something else")
    assert "nowhere" in lines[3]
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_model_to_mix_is_not_overwritten(stages, capsys):
    error = refused(capsys, *stages, "--output", stages[0], "--alpha", "0.5")
    assert "--output: this is one of the models to mix" in error


def test_options_of_choosing_need_it(stages, tmp_path, capsys):
    error = refused(
        capsys, *stages, "--output", tmp_path / "new", "--alpha", "0.5", "--grid", "0.1",
        "--criterion", "accuracy",
    )  # fmt: skip
    assert [line.split(":")[1].strip() for line in error.splitlines()] == ["--grid", "--criterion"]


def test_a_score_that_the_task_does_not_have_is_refused(stages, tmp_path, capsys, sources):
    error = refused(
        capsys, *stages, "--output", tmp_path / "new", "--choose", "--validation",
        f"dev={sources['dev']}", "--criterion", "acuracy",
    )  # fmt: skip
    assert "--criterion: the task has no such score (value: acuracy). Did you mean" in error


def test_the_command_shows_what_it_measured_and_replaces_its_own_output(
    stages, sources, tmp_path, capsys
):
    for _ in range(2):
        arguments = [
            "interpolate", *map(str, stages), "--output", str(tmp_path / "new"), "--choose",
            "--validation", f"dev={sources['dev']}", "--grid", "0", "1", "--cache",
            str(tmp_path / "cache"),
        ]  # fmt: skip
        assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"alpha 1: {tmp_path / 'new'}"
    assert any(line.startswith("1 *") for line in lines)
    assert not list(tmp_path.glob(".*-new"))


def test_models_that_compute_no_numbers_are_not_chosen(stages, sources, tmp_path):
    broken = changed(
        tmp_path / "broken",
        stages[1],
        tensors=lambda state: {
            key: torch.full_like(value, torch.nan) for key, value in state.items()
        },
    )
    with pytest.raises(ConfigError, match="no mixture has a loss and a score"):
        interpolate(
            broken, broken, tmp_path / "new", validation={"dev": sources["dev"]}, grid=(1.0,),
            cache_dir=tmp_path / "cache",
        )  # fmt: skip


@pytest.fixture(scope="module")
def heads(label_corpus, world, tmp_path_factory):
    """Exports of two tasks in a row, one with labels and one with scores."""
    folder = tmp_path_factory.mktemp("heads")
    stages = [
        {"name": "weather", "languages": ["weather"], "epochs": 3},
        {"name": "wetness", "languages": ["wetness"], "epochs": 3, "start_from": "weather"},
    ]
    changes = {"headrace.stages": stages}
    path = label_corpus.write_config(folder / "run.json", folder / "run", **changes)
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, StopFlag())
    return [folder / "run" / stage / "all" / "export" for stage in ("weather", "wetness")]


def test_tasks_with_labels_and_with_scores_decide_by_the_first_score_of_each(
    heads, label_corpus, tmp_path
):
    data = {source: label_corpus.source(source, "dev") for source in ("weather", "wetness")}
    settings = {"validation": data, "grid": (0.0, 0.5, 1.0), "cache_dir": tmp_path / "cache"}
    result = interpolate(*heads, tmp_path / "new", **settings)
    for trial in result.trials:
        assert trial.scores == {
            "weather": trial.metrics["weather"]["accuracy"],
            "wetness": trial.metrics["wetness"]["spearman"],
        }
    assert result.alpha == max(result.trials, key=lambda trial: (trial.score, trial.alpha)).alpha
    card = (tmp_path / "new" / "README.md").read_text()
    (row,) = [line for line in card.splitlines() if line.startswith("| wetness")]
    assert row.count("–") == 3
    assert read_facts(tmp_path / "new")["languages"] == ["weather", "wetness"]
    with pytest.raises(ConfigError, match="weather has no such score"):
        interpolate(*heads, tmp_path / "other", criterion="pearson", **settings)
