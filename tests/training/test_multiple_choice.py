"""Multiple choice from shards to answers: learned, resumed, exported, scored and reported."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForMultipleChoice,
    AutoTokenizer,
    RobertaConfig,
    RobertaModel,
)

from headrace.cli import main
from headrace.config import load_run_config
from headrace.config.schema import ModelConfig
from headrace.errors import ConfigError, EncodingError
from headrace.stream.grouping import TokenBudgetPlan
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.training.branch_run import total_steps
from headrace.training.data import BatchMaker, encode_data, open_data, plan_batches, token_lengths
from headrace.training.model import build_model, new_model
from headrace.training.stages import expand_stages

WORKER = Path(__file__).parent / "workers" / "several_runs.py"
TOKENS = {"type": "tokens", "tokens_per_batch": 600, "window_batches": 4}


@pytest.fixture(scope="module")
def runs(choice_corpus, launcher, tmp_path_factory):
    """Folders of runs by name, all made by one pair of ranks."""
    folder = tmp_path_factory.mktemp("choices")
    few = {"headrace.stages": [{"name": "choices", "epochs": 2, "max_steps": 20}]}
    jobs, outputs = [], {}
    for name, changes, stop_after in (
        ("learned", {"headrace.model.dropout": 0.0, "zero_optimization.stage": 1}, None),
        ("first", {**few, "zero_optimization.stage": 2, "headrace.batching": TOKENS}, None),
        ("stopped", {**few, "zero_optimization.stage": 2, "headrace.batching": TOKENS}, 9),
    ):
        outputs[name] = folder / name
        config = choice_corpus.write_config(folder / f"{name}.json", outputs[name], **changes)
        jobs.append({"config": str(config), "stop_after": stop_after})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = launcher.run(WORKER, str(folder / "jobs.json"))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return outputs


def plain_logits(folder: Path, samples: list[dict]) -> list[torch.Tensor]:
    """Scores of the choices as a user of transformers gets them, one sample at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForMultipleChoice.from_pretrained(folder).eval()
    answers = []
    for sample in samples:
        count = len(sample["choices"])
        batch = tokenizer(
            [sample["context"]] * count, sample["choices"], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            logits = network(**{name: tensor[None] for name, tensor in batch.items()}).logits
        answers.append(logits[0])
    return answers


@pytest.mark.slow
def test_a_small_network_learns_what_can_be_learned(runs):
    (entry,) = json.loads((runs["learned"] / "results.json").read_text())["stages"]
    metrics = entry["metrics"]["en"]
    assert metrics["accuracy"] == 1.0
    assert metrics["samples"] == 60
    assert 0.25 < metrics["chance"] < 0.5
    assert metrics["questions"]["cause"]["samples"] == metrics["questions"]["effect"]["samples"]
    assert metrics["subsets"]["clean"]["samples"] == 40


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_equal_losses(runs, read_losses):
    first, stopped = read_losses(runs["first"]), read_losses(runs["stopped"])
    assert len(first) > 20
    assert first == stopped
    states = [
        AutoModelForMultipleChoice.from_pretrained(runs[name] / "choices/all/export").state_dict()
        for name in ("first", "stopped")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_the_export_answers_as_the_run_did(runs, choice_corpus, tmp_path, capsys):
    folder = runs["first"] / "choices/all/export"
    samples = choice_corpus.samples("dev")
    logits = plain_logits(folder, samples)
    right = [
        int(own.argmax()) == sample["label"] for own, sample in zip(logits, samples, strict=True)
    ]
    (entry,) = json.loads((runs["first"] / "results.json").read_text())["stages"]
    assert entry["metrics"]["en"]["accuracy"] == pytest.approx(sum(right) / len(right))
    assert 0 < sum(right) < len(right) or len(set(right)) == 1
    losses = [-own.log_softmax(0)[s["label"]] for own, s in zip(logits, samples, strict=True)]
    assert entry["validation_loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)

    scores = tmp_path / "scores.json"
    cache = ["--cache", str(tmp_path), "--json", str(scores)]
    data = ["--data", f"en={choice_corpus.source('dev')}"]
    assert main(["evaluate", str(runs["first"]), *data, *cache]) == 0
    table = capsys.readouterr().out
    assert "Accuracy, cause" in table
    assert "Accuracy, clean" in table
    found = json.loads(scores.read_text())
    assert found["languages"]["en"]["metrics"] == entry["metrics"]["en"]

    output = tmp_path / "answers.jsonl"
    command = ["predict", str(folder), "--input", choice_corpus.source("dev")]
    assert main([*command, "--output", str(output), "--batch-size", "7"]) == 0
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    for answer, own, sample in zip(answers, logits, samples, strict=True):
        assert answer["scores"] == pytest.approx(own.softmax(0).tolist(), abs=1e-5)
        assert answer["choice"] == sample["choices"][answer["answer"]]
        assert answer["language"] == "en"


@pytest.mark.slow
def test_reports_show_accuracy(runs, capsys):
    assert main(["report", str(runs["learned"])]) == 0
    text = (runs["learned"] / "results.md").read_text()
    assert "| Language | Accuracy | Chance |" in text
    assert "| en | 100.00 |" in text
    assert "Cause and effect questions" in text
    assert "nats per sample" in text
    page = (runs["learned"] / "report.html").read_text()
    assert '<section id="questions"' in page
    assert 'id="types"' not in page
    assert "F1" not in page
    lines = (runs["learned"] / "metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line)["metrics"] for line in lines if '"validation"' in line]
    assert all(set(one["en"]) == {"accuracy"} for one in scores)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs["learned"] / "tensorboard" / "choices" / "all")).Reload()
    written = [event.value for event in events.Scalars("validation_accuracy/en")]
    assert written == pytest.approx([one["en"]["accuracy"] for one in scores])


@pytest.fixture(scope="module")
def data_and_branch(choice_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    config = load_run_config(choice_corpus.write_config(folder / "run.json", folder / "run"))
    return encode_data(open_data(config), config), expand_stages(config)[0]


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_share_the_samples_of_token_budgets(data_and_branch, ranks):
    data, branch = data_and_branch
    plan = TokenBudgetPlan(
        data.opened.plan(branch, 3, data.train), token_lengths([data.train["en"]]),
        tokens_per_batch=400,
    )  # fmt: skip
    steps = plan.steps_before(1)
    seen = 0
    for step in range(steps):
        batches = [
            BatchMaker(
                data, plan, branch, rank=rank, world_size=ranks, micro_batch_size=1, accumulation=2
            ).make(step)
            for rank in range(ranks)
        ]
        counted = [
            int((micro["labels"] >= 0).sum()) for batch in batches for micro in batch.micro_batches
        ]
        assert sum(counted) == batches[0].samples == batches[0].labelled_tokens
        real = sum(
            int((micro["attention_mask"][micro["labels"] >= 0]).sum())
            - int((micro["attention_mask"].shape[1] - micro["choice_counts"]).sum())
            for batch in batches
            for micro in batch.micro_batches
            if (micro["labels"] >= 0).any()
        )
        assert real == batches[0].real_tokens
        seen += sum(counted)
    assert seen == data.train["en"].samples


def test_a_folder_without_a_pooler_is_fine_one_without_weights_is_not(choice_corpus, tmp_path):
    """As RoBERTa is published: pretrained with something that has no use for a pooler."""
    settings = RobertaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=34, pad_token_id=0,
    )  # fmt: skip
    body = RobertaModel(settings, add_pooling_layer=False)
    tokenizer = AutoTokenizer.from_pretrained(choice_corpus.tokenizer)
    tokenizer.save_pretrained(tmp_path / "body")
    section = ModelConfig(pretrained=str(tmp_path / "body"))
    body.save_pretrained(tmp_path / "body")
    first, again = (build_model(section, MultipleChoice(), tokenizer, seed=5) for _ in range(2))
    for name, weights in body.state_dict().items():
        assert torch.equal(first.roberta.state_dict()[name], weights)
    assert torch.equal(first.roberta.pooler.dense.weight, again.roberta.pooler.dense.weight)
    state = body.state_dict()
    del state["encoder.layer.0.attention.self.query.weight"]
    body.save_pretrained(tmp_path / "body", state_dict=state)
    with pytest.raises(ConfigError, match="lacks weights of this network"):
        build_model(section, MultipleChoice(), tokenizer, seed=5)


def test_a_sample_above_the_token_budget_is_refused(choice_corpus, tmp_path):
    batching = {"type": "tokens", "tokens_per_batch": 30}
    path = choice_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.batching": batching}
    )
    config = load_run_config(path)
    branch = expand_stages(config)[0]
    plan = plan_batches(config, branch, encode_data(open_data(config), config))
    with pytest.raises(EncodingError, match="a sample has more tokens than tokens_per_batch"):
        total_steps(branch, plan)


def test_a_dry_run_names_the_task(choice_corpus, tmp_path, capsys):
    config = choice_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    assert main(["train", "--ds_config", str(config), "--dry-run"]) == 0
    assert "multiple choice" in capsys.readouterr().out


def test_packed_batches_are_refused(choice_corpus, tmp_path, capsys):
    config = choice_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.batching": {"type": "packed"}}
    )
    assert main(["train", "--ds_config", str(config), "--dry-run"]) == 2
    assert "they cannot be packed" in capsys.readouterr().err


def test_predict_names_every_mistake(choice_corpus, tmp_path, capsys):
    config = choice_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    loaded = load_run_config(config)
    opened = open_data(loaded)
    folder = tmp_path / "model"
    new_model(loaded.headrace.model, opened.task, opened.tokenizer).save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(
        '{"context": "dark", "choices": ["moon", "sun"], "id": 7}\n'
        '{"context": "dark", "choices": ["moon"]}\nnot json\n'
    )
    command = ["predict", str(folder), "--input", str(path), "--output", str(output)]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert "in.jsonl:2: 1 choice, there have to be 2 or more" in errors
    assert "in.jsonl:3: not JSON" in errors
    assert not output.exists()
    path.write_text(path.read_text().splitlines()[0])
    assert main([*command, "--max-length", "4"]) == 0
    assert "1 token" not in capsys.readouterr().err.replace("beyond 4 tokens", "")
    assert json.loads(output.read_text())["id"] == "7"
    assert main([*command, "--output-format", "conll"]) == 2
    assert "answers are written as JSON lines" in capsys.readouterr().err


def test_the_lexicon_is_for_entities(choice_corpus, capsys):
    source = choice_corpus.source("dev")
    command = ["lexicon", "--train", source, "--evaluate", f"en={source}", "--labels", "conll2003"]
    assert main(command) == 2
    assert "a baseline of named entity recognition" in capsys.readouterr().err
