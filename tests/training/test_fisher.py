"""Fisher information: what is measured, on which samples, and the file that keeps it."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, BertConfig

from headrace.config import load_run_config
from headrace.errors import StopRequested, UserError
from headrace.stream.plan import Locations
from headrace.training.anchors import earlier_branches, first_samples, what_is_held
from headrace.training.data import collate, encode_data, open_data
from headrace.training.distributed import World
from headrace.training.dry_run import show_plan
from headrace.training.fisher import losses_of_drawn_labels, mean_squared_gradients, read_fisher
from headrace.training.layers import head_parameters
from headrace.training.masked_lm import MaskedLanguageModel
from headrace.training.model import build_model
from headrace.training.run import train_in_group
from headrace.training.stages import expand_stages

STAGES = [
    {"name": "first", "languages": ["en"], "max_steps": 4, "keep_best": "last"},
    {
        "name": "second", "languages": ["hi"], "start_from": "first", "max_steps": 4,
        "keep_best": "last", "penalty": {"type": "ewc", "weight": 1e4, "samples": 24},
    },
]  # fmt: skip


class Never:
    """No signal arrives."""

    received = None
    asked = False


def opened_run(corpus, folder, name="run", **changes):
    settings = {"headrace.stages": STAGES, **changes}
    config = load_run_config(
        corpus.write_config(folder / f"{name}.json", folder / name, **settings)
    )
    return config, encode_data(open_data(config), config)


def run(config, world, stop_flag=None):
    train_in_group(config, expand_stages(config), world, stop_flag or Never())


@pytest.fixture(scope="module")
def trained(small_corpus, tmp_path_factory, world):
    """A finished run of two stages, the second with EWC."""
    config, data = opened_run(small_corpus, tmp_path_factory.mktemp("fisher"))
    run(config, world)
    return config, data


def network_of(config, data, seed=2):
    model = build_model(config.headrace.model, data.opened.task, data.opened.tokenizer, seed=seed)
    return model.eval()


def measured(model, data, samples, world, seed=7, names=None):
    losses = losses_of_drawn_labels(
        model, data.opened.task, [data.train["en"]], samples,
        pad=data.opened.tokenizer.pad_token_id, seed=seed, world=world,
    )  # fmt: skip
    held = {n: p for n, p in model.named_parameters() if names is None or n in names}
    return mean_squared_gradients(losses, held, total=len(samples), world=world)


def places(numbers):
    zeros = np.zeros(len(numbers), dtype=np.int64)
    return Locations(zeros, zeros, np.asarray(numbers, dtype=np.int64))


@pytest.mark.parametrize("kind", ["token_classification", "multiple_choice"])
def test_the_mean_over_draws_is_the_closed_form(small_corpus, choice_corpus, tmp_path, world, kind):
    """A bias that is added to the logits has the Fisher information sum p (1 - p) over places.

    That of a batch's gradient, or of the labels of the data, is another.  The score of a choice
    has one bias for all choices, of which nothing depends: its Fisher information is 0.
    """
    corpus = small_corpus if kind == "token_classification" else choice_corpus
    stages = [{"name": "only", "keep_best": "last"}]
    config, data = opened_run(corpus, tmp_path, **{"headrace.stages": stages})
    model = network_of(config, data)
    with torch.no_grad():
        model.classifier.bias.add_(torch.linspace(0, 2, len(model.classifier.bias)))
    draws = 300 if kind == "token_classification" else 20
    found = measured(
        model, data, places([3] * draws), world, names={"classifier.bias", "classifier.weight"}
    )
    batch = collate(data.opened.task, [data.train["en"]], places([3]), 0)
    with torch.no_grad():
        _, logits = data.opened.task.loss_sum(model, batch, training=False)
    if kind == "multiple_choice":
        assert found["classifier.bias"].max() < 1e-10
        assert found["classifier.weight"].max() > 1e-6
        return
    shares = logits[batch["labels"] >= 0].softmax(-1)
    expected = (shares * (1 - shares)).sum(0)
    assert found["classifier.bias"].sum().item() == pytest.approx(expected.sum().item(), rel=0.1)
    assert torch.allclose(found["classifier.bias"], expected, rtol=0.6, atol=0.1)


def test_labels_of_the_data_have_no_part_and_each_sample_is_squared_alone(trained, world):
    config, data = trained
    model = network_of(config, data)
    task, source = data.opened.task, data.train["en"]
    both = measured(model, data, places([0, 1]), world)
    # the labels of a sample are drawn by its number among the samples
    first = measured(model, data, places([0]), world)
    second = measured(model, data, places([0, 1]).take(slice(0, 2)), world)
    assert all(torch.equal(both[name], second[name]) for name in both)
    batch = collate(task, [source], places([0]), data.opened.tokenizer.pad_token_id)
    other = dict(batch, labels=torch.where(batch["labels"] >= 0, 0, batch["labels"]))
    with torch.no_grad():
        _, logits = task.loss_sum(model, batch, training=False)
    draws = [
        task.draw_labels(logits, one, torch.Generator().manual_seed(4))["labels"]
        for one in (batch, other)
    ]
    assert torch.equal(*draws)
    assert torch.equal(draws[0] >= 0, batch["labels"] >= 0)
    # a mean of squares: twice the mean of two is at least the square of either
    name = "bert.encoder.layer.0.output.dense.weight"
    assert (2 * both[name] >= first[name] * (1 - 1e-5)).all()
    assert first[name].min() >= 0
    assert first[name].max() > 0


def test_ranks_share_the_samples(trained, world):
    """Their sums are those of one process: the sample decides which labels are drawn."""
    config, data = trained
    model = network_of(config, data)
    samples = places([0, 1, 2, 3, 4])
    whole = measured(model, data, samples, world)

    def losses(rank):
        return losses_of_drawn_labels(
            model, data.opened.task, [data.train["en"]], samples,
            pad=data.opened.tokenizer.pad_token_id, seed=7, world=World(rank, 2, world.device),
        )  # fmt: skip

    held = dict(model.named_parameters())
    parts = [mean_squared_gradients(losses(n), held, total=5, world=world) for n in range(2)]
    for name, value in whole.items():
        assert torch.allclose(parts[0][name] + parts[1][name], value, rtol=1e-5, atol=1e-12)


def test_the_file_beside_the_export_is_that_of_the_stage_and_its_head_is_left_out(trained, world):
    config, data = trained
    first, second = expand_stages(config)
    path = first.folder / "fisher-24.safetensors"
    found = load_file(path)
    model = build_model(
        config.headrace.model, data.opened.task, data.opened.tokenizer, seed=0,
        start_folder=first.export_folder,
    ).eval()  # fmt: skip
    plan = data.opened.plan(first, config.headrace.seed, data.train)
    expected = measured(
        model, data, first_samples(plan, 24), world, seed=config.headrace.seed, names=set(found)
    )
    assert set(found) == set(dict(model.named_parameters())) - head_parameters(model)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    held = what_is_held(config, second, data, model, world)
    assert all(torch.equal(held.importance[name], found[name]) for name in found)
    assert held.weight == 1e4
    exported = load_file(first.export_folder / "model.safetensors")
    assert all(torch.equal(held.anchor[name], exported[name]) for name in held.anchor)


def test_the_penalty_keeps_weights_nearer_and_is_logged(small_corpus, trained, tmp_path, world):
    config, _ = trained
    free_stages = [STAGES[0], {key: STAGES[1][key] for key in STAGES[1] if key != "penalty"}]
    free, _ = opened_run(small_corpus, tmp_path, "free", **{"headrace.stages": free_stages})
    strong_stages = [STAGES[0], {**STAGES[1], "penalty": {"type": "l2_sp", "weight": 100.0}}]
    strong, _ = opened_run(small_corpus, tmp_path, "strong", **{"headrace.stages": strong_stages})
    importance = load_file(expand_stages(config)[0].folder / "fisher-24.safetensors")
    moved = []
    for item in (free, strong):
        run(item, world)
    for item in (config, free, strong):
        start, end = (
            load_file(branch.export_folder / "model.safetensors") for branch in expand_stages(item)
        )
        squares = {name: (end[name] - start[name]) ** 2 for name in importance}
        moved.append(
            [
                sum(float((importance[name] * squares[name]).sum()) for name in importance),
                sum(float(squares[name].sum()) for name in importance),
            ]
        )
    (ewc, _), (unheld, wide), (_, narrow) = moved
    assert ewc < 0.7 * unheld
    assert narrow < 0.7 * wide
    lines = [json.loads(line) for line in (config.output / "metrics.jsonl").open()]
    logged = [line["penalty"] for line in lines if line["kind"] == "train"]
    assert logged[:4] == [None] * 4
    assert logged[4] == 0.0
    assert min(logged[5:]) > 0


def test_a_stopped_run_measures_once_and_goes_on_to_the_bit(
    small_corpus, trained, tmp_path, world, stop_after, read_losses
):
    whole, _ = trained
    config, _ = opened_run(small_corpus, tmp_path, "stopped")
    with pytest.raises(StopRequested):
        run(config, world, stop_after(8))
    path = expand_stages(config)[0].folder / "fisher-24.safetensors"
    before = path.stat().st_mtime_ns
    assert not (config.output / "second" / "all" / "result.json").exists()
    run(config, world)
    assert path.stat().st_mtime_ns == before
    assert read_losses(config.output) == read_losses(whole.output)
    again, once = (
        load_file(item.output / "second" / "all" / "export" / "model.safetensors")
        for item in (config, whole)
    )
    assert all(torch.equal(again[name], once[name]) for name in once)


def test_files_of_another_model_other_data_or_damaged_ones_are_refused(
    small_corpus, trained, tmp_path, world
):
    config, _ = trained
    path = expand_stages(config)[0].folder / "fisher-24.safetensors"
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    names = list(load_file(path))
    facts.pop("format")
    assert read_fisher(path, facts, names)
    with pytest.raises(UserError, match="is that of another model"):
        read_fisher(path, {**facts, "model": "0" * 64}, names)
    with pytest.raises(UserError, match="is that of another data"):
        read_fisher(path, {**facts, "data": "0"}, names)
    with pytest.raises(UserError, match=r"lacks parameters.*extra\.weight"):
        read_fisher(path, facts, [*names, "extra.weight"])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read"):
        read_fisher(damaged, facts, names)
    # a run whose first stage was trained in another way, with the file of this one
    changes = {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}
    other, _ = opened_run(small_corpus, tmp_path, "other", **changes)
    first = expand_stages(other)[0]
    first.folder.mkdir(parents=True)
    shutil.copy(path, first.folder / path.name)
    with pytest.raises(UserError, match="is that of another model"):
        run(other, world)


def test_fishers_of_several_stages_are_added_the_last_one_first(small_corpus, tmp_path, world):
    third = {
        "name": "third", "languages": ["zh"], "start_from": "second", "max_steps": 1,
        "keep_best": "last", "penalty": {"type": "ewc", "weight": 1, "samples": 5, "decay": 0.25},
    }  # fmt: skip
    stages = [{**STAGES[0], "max_steps": 1}, {**STAGES[1], "max_steps": 1}, third]
    config, data = opened_run(small_corpus, tmp_path, **{"headrace.stages": stages})
    run(config, world)
    first, second, last = expand_stages(config)
    assert [branch.title for branch in earlier_branches(config, last)] == ["second", "first"]
    parts = [load_file(branch.folder / "fisher-5.safetensors") for branch in (second, first)]
    held = what_is_held(config, last, data, network_of(config, data), world)
    for name, value in held.importance.items():
        assert torch.equal(value, parts[0][name] + 0.25 * parts[1][name])


@pytest.fixture(scope="module")
def masked_lm_folder(small_corpus, tmp_path_factory):
    """A pretrained folder with a masked-language-model head, and the same without it."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("masked_lm")
    tokenizer = AutoTokenizer.from_pretrained(small_corpus.tokenizer)
    torch.manual_seed(3)
    settings = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    AutoModelForMaskedLM.from_config(settings).save_pretrained(folder / "with")
    AutoModel.from_pretrained(folder / "with").save_pretrained(folder / "without")
    for name in ("with", "without"):
        tokenizer.save_pretrained(folder / name)
    return folder


def masked_lm_run(corpus, folder, pretrained, **penalty):
    settings = {
        "type": "ewc", "of": "masked_lm", "weight": 100.0, "samples": 12,
        "text": [corpus.source("en", "train"), corpus.source("zh", "train")],
        "cache_dir": str(folder / "fisher"), **penalty,
    }  # fmt: skip
    stages = [{**STAGES[0], "penalty": settings}]
    changes = {"headrace.model": {"pretrained": str(pretrained)}, "headrace.stages": stages}
    return opened_run(corpus, folder, "mlm", **changes)


def test_the_fisher_of_masked_lm_is_measured_once_with_the_pretrained_head(
    small_corpus, masked_lm_folder, tmp_path, world
):
    config, data = masked_lm_run(small_corpus, tmp_path, masked_lm_folder / "with")
    run(config, world)
    (path,) = (tmp_path / "fisher").iterdir()
    model = network_of(config, data)
    (branch,) = expand_stages(config)
    before = path.stat().st_mtime_ns
    held = what_is_held(config, branch, data, model, world)
    assert path.stat().st_mtime_ns == before
    assert set(held.anchor) == set(dict(model.named_parameters())) - head_parameters(model)
    pretrained = load_file(masked_lm_folder / "with" / "model.safetensors")
    assert all(torch.equal(held.anchor[name], pretrained[name]) for name in held.anchor)
    words = held.importance["bert.embeddings.word_embeddings.weight"]
    mask = data.opened.tokenizer.mask_token_id
    # the gradient reaches every word through the output layer, which is tied, and the mask most
    assert (words.sum(1) > 0).all()
    assert words[mask].sum() > 2 * words.sum(1).median()


def test_only_masked_tokens_go_through_the_head(small_corpus, masked_lm_folder, tmp_path, world):
    config, data = masked_lm_run(small_corpus, tmp_path, masked_lm_folder / "with")
    (branch,) = expand_stages(config)
    model = MaskedLanguageModel(config, branch.stage.penalty, data.opened.tokenizer, "penalty")
    model.network.eval()
    texts = [model.masked(ids, key) for key, ids in enumerate(model.texts("some", 3, world))]
    for text in texts:
        masks = (text.ids == data.opened.tokenizer.mask_token_id).nonzero()[:, 0]
        assert torch.equal(masks, text.places.sort().values)
        assert 1 <= len(masks) <= 0.25 * len(text.ids)
    with torch.no_grad():
        found = model.logits(texts, world)
        alone = [model.network(text.ids[None]).logits[0, text.places] for text in texts]
    assert torch.allclose(found, torch.cat(alone), atol=1e-5)


def test_a_folder_without_the_head_is_refused_unless_one_is_fitted(
    small_corpus, masked_lm_folder, tmp_path, world, caplog
):
    config, _ = masked_lm_run(small_corpus, tmp_path, masked_lm_folder / "without")
    with pytest.raises(UserError, match=r"has no masked-language-model head.*fit_head") as caught:
        run(config, world)
    assert caught.value.problems[0].where == "headrace.stages.0.penalty.of"
    assert not config.output.exists()
    config, _ = masked_lm_run(
        small_corpus, tmp_path, masked_lm_folder / "without", fit_head=12, samples=4
    )
    with caplog.at_level("INFO"):
        run(config, world)
    (line,) = [item for item in caplog.messages if item.startswith("masked-language-model head")]
    first, last, _ = (float(word.strip(",")) for word in line.split() if word[0].isdigit())
    assert last < first
    assert len(list((tmp_path / "fisher").iterdir())) == 1


def test_a_dry_run_says_what_is_held(small_corpus, tmp_path, capsys):
    third = {"name": "third", "start_from": "second", "penalty": {"type": "l2_sp", "weight": 0.01}}
    fourth = {**third, "name": "fourth", "start_from": "third", "penalty": STAGES[1]["penalty"]}
    stages = [*STAGES, third, fourth]
    config, _ = opened_run(small_corpus, tmp_path, **{"headrace.stages": stages})
    show_plan(config)
    lines = [line for line in capsys.readouterr().out.splitlines() if ": penalty" in line]
    assert lines == [
        "second: penalty ewc, weight 10000, held at the model of first, Fisher information of "
        "first on 24 samples",
        "third: penalty l2_sp, weight 0.01, held at the model of second",
        "fourth: penalty ewc, weight 10000, held at the model of third, Fisher information of "
        "third, second, first on 24 samples",
    ]
    assert not config.output.exists()


def test_a_penalty_with_nothing_to_hold_is_refused(small_corpus, tmp_path, world):
    frozen = {
        "groups": [{"name": "body", "select": {"regex": "^bert"}, "freeze": True}],
        "unmatched": "base",
    }
    stages = [STAGES[0], {**STAGES[1], "param_groups": frozen}]
    config, _ = opened_run(small_corpus, tmp_path, **{"headrace.stages": stages})
    with pytest.raises(UserError, match=r"stages\.1\.penalty: there is nothing to hold"):
        run(config, world)
    assert not config.output.exists()
