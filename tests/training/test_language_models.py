"""Language models from shards to exports: masks on any ranks, runs that go on, other tasks."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, pipeline

from headrace.cli import main
from headrace.config import load_run_config
from headrace.errors import UserError
from headrace.tasks.task import IGNORED
from headrace.training.data import BatchMaker, encode_data, open_data, plan_batches
from headrace.training.model import build_model
from headrace.training.run import check_run, train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

WORKER = Path(__file__).parent / "workers" / "several_runs.py"
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "intermediate_size": 64, "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}  # fmt: skip
MASKED = {"type": "masked_lm", "max_length": 16, "whole_word": True}
CAUSAL = {"type": "causal_lm", "max_length": 16}
PACKED = {"type": "packed", "pack_length": 40, "window_batches": 4}


def write(small_corpus, folder, name, task, **changes):
    """A run of one stage of two epochs in three languages, and its folder."""
    settings = {
        "headrace.task": task,
        "headrace.stages": [{"name": "text", "epochs": 2}],
        **({"headrace.model.config": LLAMA} if task["type"] == "causal_lm" else {}),
        **changes,
    }
    return small_corpus.write_config(folder / f"{name}.json", folder / name, **settings)


@pytest.fixture(scope="module")
def makers(small_corpus, tmp_path_factory):
    """Makes the batches of a rank: ``(task, batching, rank=0, world_size=1)``."""
    folder = tmp_path_factory.mktemp("makers")
    opened = {}

    def make(task, batching, rank=0, world_size=1):
        key = json.dumps([task, batching])
        if key not in opened:
            path = write(
                small_corpus, folder, f"m{len(opened)}", task,
                **{"headrace.batching": batching, "train_batch_size": 12},
            )  # fmt: skip
            config = load_run_config(path)
            data = encode_data(open_data(config), config)
            branch = expand_stages(config)[0]
            opened[key] = data, branch, plan_batches(config, branch, data)
        data, branch, plan = opened[key]
        return BatchMaker(
            data, plan, branch, rank=rank, world_size=world_size,
            micro_batch_size=12, accumulation=2,
        )  # fmt: skip

    return make


def sequences_in(batches):
    """Every sequence of the micro-batches that has a label, as (ids, labels)."""
    found = []
    for batch in batches:
        for micro in batch.micro_batches:
            segments = micro.get("segments", micro.get("attention_mask"))
            for ids, numbers, labels in zip(
                micro["input_ids"], segments, micro["labels"], strict=True
            ):
                for number in range(1, int(numbers.max()) + 1):
                    own = numbers == number
                    if (labels[own] != IGNORED).any():
                        found.append((tuple(ids[own].tolist()), tuple(labels[own].tolist())))
    return sorted(found)


SAMPLES = {"type": "samples", "window_batches": 4}
TOKENS = {"type": "tokens", "tokens_per_batch": 160, "window_batches": 4}


@pytest.mark.parametrize(
    "batching", [SAMPLES, TOKENS, PACKED], ids=lambda batching: batching["type"]
)
@pytest.mark.parametrize("task", [{**MASKED, "whole_word": False}, MASKED, CAUSAL])
def test_masks_and_counts_are_the_same_on_any_number_of_ranks(makers, task, batching):
    total = 0
    for step in (0, 5, 6):
        alone = makers(task, batching).make(step)
        total += alone.labelled_tokens
        for world_size in (2, 3):
            shared = [
                makers(task, batching, rank, world_size).make(step) for rank in range(world_size)
            ]
            assert sequences_in(shared) == sequences_in([alone])
            assert {batch.labelled_tokens for batch in shared} == {alone.labelled_tokens}
            labels = sum(
                int((micro["labels"] != IGNORED).sum())
                for batch in shared
                for micro in batch.micro_batches
            )
            assert labels == alone.labelled_tokens
    assert total > 10


def test_masks_do_not_depend_on_what_was_made_before(makers):
    """As after a resume."""
    maker = makers(MASKED, SAMPLES)
    in_turn = [maker.make(step) for step in range(6)]
    assert sequences_in([maker.make(4)]) == sequences_in([in_turn[4]])


def originals(batch):
    """The sequences of a batch before masking, each with the places that are masked."""
    found = {}
    for ids, labels in sequences_in([batch]):
        whole = tuple(id_ if label < 0 else label for id_, label in zip(ids, labels, strict=True))
        found.setdefault(whole, []).append(tuple(label >= 0 for label in labels))
    return found


def test_the_next_epoch_masks_anew(makers):
    maker = makers(MASKED, SAMPLES)
    per_epoch = maker.plan.steps_before(1)
    epochs, masked = [], 0
    for epoch in range(2):
        seen = {}
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            batch = maker.make(step)
            masked += batch.labelled_tokens
            seen |= originals(batch)
        epochs.append(seen)
    whole = 2 * sum(int(shard.label_counts.sum()) for s in maker.sources for shard in s.shards)
    assert masked / whole == pytest.approx(0.15, abs=0.01)
    both = [text for text in epochs[0] if text in epochs[1] and len(text) > 8]
    assert len(both) > 50
    changed = sum(epochs[0][text] != epochs[1][text] for text in both)
    assert changed > 0.8 * len(both)


@pytest.fixture(scope="module")
def masked_run(small_corpus, world, tmp_path_factory):
    """A finished run of masked-language modelling."""
    folder = tmp_path_factory.mktemp("masked")
    config = load_run_config(write(small_corpus, folder, "run", MASKED))
    train_in_group(config, expand_stages(config), world, StopFlag())
    return config.output


def test_perplexity_is_that_of_the_loss(masked_run):
    (entry,) = json.loads((masked_run / "results.json").read_text())["stages"]
    lines = [json.loads(line) for line in (masked_run / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert len(validations) == 2
    assert validations[1]["loss"] < validations[0]["loss"] < math.log(1200)
    assert entry["validation_loss"] == validations[1]["loss"]
    for language, scores in entry["metrics"].items():
        loss = validations[1]["loss_by_language"][language]
        assert scores["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
        assert 0 <= scores["token_accuracy"] < 1
        assert scores["tokens"] > 30


def test_evaluate_masks_as_the_run_did(masked_run, small_corpus, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    command = ["evaluate", str(masked_run / "text/all/export"), "--cache", str(tmp_path)]
    data = ["--data", *(f"{name}={small_corpus.source(name, 'dev')}" for name in ("en", "zh"))]
    assert main([*command, *data, "--json", str(scores), "--batch-size", "7"]) == 0
    printed = capsys.readouterr().out
    assert "Perplexity" in printed
    assert "but for perplexity, of which less is better" in printed
    (entry,) = json.loads((masked_run / "results.json").read_text())["stages"]
    found = json.loads(scores.read_text())["languages"]
    for language in ("en", "zh"):
        ours, theirs = found[language]["metrics"], entry["metrics"][language]
        assert ours["tokens"] == theirs["tokens"]
        assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-4)
        assert ours["token_accuracy"] == theirs["token_accuracy"]


def test_the_export_fills_masks(masked_run):
    export = str(masked_run / "text/all/export")
    fill = pipeline("fill-mask", export, device="cpu")
    answers = fill(f"the {fill.tokenizer.mask_token} of", top_k=3)
    assert len(answers) == 3
    assert answers[0]["score"] >= answers[1]["score"] > 0
    card = (masked_run / "text/all/export/README.md").read_text()
    assert "pipeline_tag: fill-mask" in card
    assert "in per cent but for perplexity" in card
    facts = json.loads((masked_run / "text/all/export/headrace.json").read_text())
    assert (facts["whole_word"], facts["masked_share"]) == (True, 0.15)


def test_reports_call_less_perplexity_better(masked_run, capsys):
    assert main(["report", str(masked_run)]) == 0
    text = (masked_run / "results.md").read_text()
    assert "| Language | Perplexity | Token accuracy |" in text
    assert "but for perplexity, of which less is better" in text
    assert "nats per masked token" in text


def test_token_classification_starts_from_the_export(masked_run, small_corpus, world, tmp_path):
    export = masked_run / "text/all/export"
    path = small_corpus.write_config(
        tmp_path / "ner.json", tmp_path / "ner",
        **{"headrace.model": {"pretrained": str(export)},
           "headrace.stages": [{"name": "ner", "max_steps": 2}]},
    )  # fmt: skip
    config = load_run_config(path)
    opened, _ = check_run(config, expand_stages(config), 1)
    network = build_model(config.headrace.model, opened.task, opened.tokenizer, seed=1)
    pretrained = AutoModelForMaskedLM.from_pretrained(export).base_model.state_dict()
    body = network.base_model.state_dict()
    assert body.keys() == pretrained.keys()
    assert all(torch.equal(body[name], value) for name, value in pretrained.items())
    train_in_group(config, expand_stages(config), world, StopFlag())
    (entry,) = json.loads((config.output / "results.json").read_text())["stages"]
    assert entry["steps"] == 2


def test_what_does_not_fit_is_refused_beforehand(small_corpus, tmp_path, choice_corpus):
    """A network that looks ahead, and a tokenizer without a mask."""
    bert = small_corpus.config(tmp_path)["headrace"]["model"]["config"]
    path = write(small_corpus, tmp_path, "a", CAUSAL, **{"headrace.model.config": bert})
    config = load_run_config(path)
    with pytest.raises(UserError, match="is_decoder"):
        check_run(config, expand_stages(config), 1)
    changes = {"headrace.model.tokenizer": str(choice_corpus.tokenizer)}
    config = load_run_config(write(small_corpus, tmp_path, "b", MASKED, **changes))
    with pytest.raises(UserError, match="no mask token"):
        check_run(config, expand_stages(config), 1)


def test_sweeps_take_the_least_loss_and_show_perplexities_as_they_are():
    from headrace.training.sweep_report import sweep_markdown

    def method(perplexity, loss):
        scores = {
            name: {"mean": value, "deviation": 0.5, "runs": 2}
            for name, value in (("perplexity", perplexity), ("token_accuracy", 0.25))
        }
        return {
            "settings": {}, "seeds": 2, "seeds_finished": 2, "loss_by_branch": {},
            "validation_loss": {"mean": loss, "deviation": None, "runs": 2},
            "languages": {"en": scores},
        }  # fmt: skip

    text = sweep_markdown(
        {
            "config": "a.json",
            "task": "masked_lm",
            "scores": {},
            "runs": [],
            "selection": None,
            "methods": {"more": method(31.0, 3.43), "less": method(22.0, 3.09)},
            "best": {"overall": {"method": "less", "validation_loss": 3.09}, "branches": {}},
        }
    )
    assert "| less (best) |" in text
    assert "| en | more | 31 ± 0.5 | 25.00 ± 50.00 |" in text
    assert "but for perplexity, of which less is better" in text


def test_a_dry_run_says_that_sequences_are_counted_later(small_corpus, tmp_path, capsys):
    path = write(small_corpus, tmp_path, "run", MASKED)
    assert main(["train", "--ds_config", str(path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "masked-language modelling, 15% of the words" in printed
    assert "into how many sequences they are cut" in printed


@pytest.fixture(scope="module")
def joint_runs(small_corpus, launcher, tmp_path_factory):
    """Folders of runs by name, made by one pair of ranks: whole ones, and stopped ones."""
    folder = tmp_path_factory.mktemp("joint")
    still = {"headrace.model.dropout": 0.0}
    kinds = {
        "masked": (MASKED, {"zero_optimization.stage": 2, "headrace.batching": PACKED}),
        "causal": (
            CAUSAL,
            {
                "zero_optimization.stage": 3,
                "headrace.batching": PACKED,
                "headrace.model.gradient_checkpointing": True,
            },
        ),
        "alike": (MASKED, {**still, "zero_optimization.stage": 3}),
    }
    jobs, outputs = [], {}
    for kind, (task, changes) in kinds.items():
        for name, stop_after in ((kind, None), (f"{kind}-stopped", 5)):
            if name == "alike-stopped":
                continue
            stages = [{"name": "text", "epochs": 2, "max_steps": 12}]
            path = write(small_corpus, folder, name, task, **{"headrace.stages": stages, **changes})
            outputs[name] = folder / name
            jobs.append({"config": str(path), "stop_after": stop_after})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = launcher.run(WORKER, str(folder / "jobs.json"))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_run_goes_on_with_equal_losses(joint_runs, read_losses, kind):
    first, stopped = (read_losses(joint_runs[name]) for name in (kind, f"{kind}-stopped"))
    assert len(first) > 12
    assert first == stopped


@pytest.mark.slow
def test_two_ranks_mask_as_one(joint_runs, read_losses, small_corpus, world, tmp_path):
    """Without dropout the losses at ZeRO 3 are those of one rank without ZeRO."""
    stages = [{"name": "text", "epochs": 2, "max_steps": 6}]
    changes = {"headrace.model.dropout": 0.0, "headrace.stages": stages}
    config = load_run_config(write(small_corpus, tmp_path, "one", MASKED, **changes))
    train_in_group(config, expand_stages(config), world, StopFlag())
    alone = {key: loss for key, loss in read_losses(config.output).items() if key[-1] == "train"}
    shared = read_losses(joint_runs["alike"])
    assert len(alone) == 6
    for key in list(alone)[:5]:  # the schedule of the shorter run is another one later on
        assert alone[key] == pytest.approx(shared[key], rel=0.02)
    first = next(iter(alone))
    assert alone[first] == pytest.approx(shared[first], rel=1e-5)


@pytest.mark.slow
def test_the_export_of_a_causal_model_generates(joint_runs):
    export = joint_runs["causal"] / "text/all/export"
    network = AutoModelForCausalLM.from_pretrained(export)
    tokenizer = AutoTokenizer.from_pretrained(export)
    ids = torch.tensor([[tokenizer.bos_token_id]])
    found = network.generate(ids, max_new_tokens=5, do_sample=False)
    assert found.shape[0] == 1
    assert 1 < found.shape[1] <= 6
    (entry,) = json.loads((joint_runs["causal"] / "results.json").read_text())["stages"]
    for scores in entry["metrics"].values():
        nats = math.log(scores["perplexity"]) * scores["tokens"]
        assert scores["bits_per_byte"] == pytest.approx(nats / math.log(2) / scores["bytes"])
    assert "pipeline_tag: text-generation" in (export / "README.md").read_text()
