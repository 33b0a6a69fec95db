"""Sequence classification from shards to answers: heads side by side, trained one by one."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2Model, pipeline

from headrace.cli import main
from headrace.config import load_run_config
from headrace.encoding.sequence_classification import Text
from headrace.errors import LabelError, UserError
from headrace.training.data import encode_data, open_data
from headrace.training.distributed import World
from headrace.training.export import write_export
from headrace.training.inference import load_model
from headrace.training.labelling import label_texts
from headrace.training.model import build_model, new_model
from headrace.training.run import check_run, train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages
from headrace.training.validation import validate

WORKER = Path(__file__).parent / "workers" / "several_runs.py"
WORLD = World(rank=0, size=1, device=torch.device("cpu"))
TOKENS = {"type": "tokens", "tokens_per_batch": 600, "window_batches": 4}


@pytest.fixture(scope="module")
def steps(label_corpus, world, tmp_path_factory):
    """A run of two steps of the heads of labels, one stage a head."""
    folder = tmp_path_factory.mktemp("steps")
    stages = [
        {"name": "first", "languages": ["weather"], "max_steps": 2},
        {"name": "second", "languages": ["pairs"], "start_from": "first", "max_steps": 2,
         "keep_best": "last"},
    ]  # fmt: skip
    path = label_corpus.write_config(
        folder / "run.json", folder / "out", **{"headrace.stages": stages}
    )
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, StopFlag())
    return config


def test_each_stage_leaves_one_model_with_all_heads(steps):
    results = json.loads((steps.output / "results.json").read_text())["stages"]
    assert [list(entry["metrics"]) for entry in results] == [["weather"], ["pairs"]]
    for entry in results:
        (metrics,) = entry["metrics"].values()
        assert {"accuracy", "macro_f1", "matthews", "samples"} <= set(metrics)
        assert metrics["samples"] == 48
        assert 0 <= metrics["accuracy"] <= 1
        network = AutoModelForSequenceClassification.from_pretrained(
            steps.output / entry["stage"] / "all" / "export"
        )
        assert list(network.config.id2label.values()) == [
            "weather:kite", "weather:moon", "weather:rain", "weather:sun",
            "pairs:does not fit", "pairs:fits", "wetness",
        ]  # fmt: skip


def test_a_stage_trains_the_head_of_its_sources_alone(steps):
    """Without weight decay the rows of the other heads are as they were, to the bit."""
    states = [
        AutoModelForSequenceClassification.from_pretrained(
            steps.output / stage / "all" / "export"
        ).classifier.state_dict()
        for stage in ("first", "second")
    ]
    for name in ("weight", "bias"):
        first, second = (state[name] for state in states)
        assert torch.equal(first[:4], second[:4])
        assert torch.equal(first[6:], second[6:])
        assert not torch.equal(first[4:6], second[4:6])


def test_losses_are_finite(steps):
    lines = [json.loads(line) for line in (steps.output / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(losses) == 4
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)


def new_export(label_corpus, folder, **changes):
    """An untrained model of a config, as a run exports it, and the config."""
    path = label_corpus.write_config(folder / "new.json", folder / "new", **changes)
    config = load_run_config(path)
    opened = open_data(config)
    network = new_model(config.headrace.model, opened.task, opened.tokenizer)
    facts = {
        **{"run": "new", "stage": "a", "branch": "all", "step": 0, "languages": [], "metrics": {}},
        **{"config_fingerprint": "", "data_fingerprint": "", "task": opened.task.name},
        **opened.task.facts(), "max_length": 24,
    }  # fmt: skip
    export = folder / "export"
    write_export(export, network, network.state_dict(), opened.tokenizer, facts, opened.task)
    return export


def plain_inputs(samples):
    return [{"text": sample["text"], "text_pair": sample.get("pair")} for sample in samples]


def test_the_pipeline_of_an_export_agrees(steps, label_corpus, tmp_path):
    """All outputs of a text; those of its head, scaled to add up to 1, are what we give."""
    export = steps.output / "second/all/export"
    pipe = pipeline("text-classification", str(export), device="cpu")
    outputs = dict.fromkeys(["weather", "pairs"])
    for head in outputs:
        samples = label_corpus.samples(head, "dev")
        output = tmp_path / f"{head}.jsonl"
        command = ["predict", str(export), "--input", label_corpus.source(head, "dev")]
        assert main([*command, "--output", str(output), "--head", head, "--batch-size", "5"]) == 0
        found = [json.loads(line) for line in output.read_text().splitlines()]
        assert len(found) == len(samples)
        right = 0
        for answer, sample, own in zip(found, samples, plain_inputs(samples), strict=True):
            if own["text_pair"] is None:
                own = {"text": own["text"]}
            shares = {one["label"]: one["score"] for one in pipe(own, top_k=None)}
            of_head = {
                name.partition(":")[2]: share
                for name, share in shares.items()
                if name.startswith(f"{head}:")
            }
            total = sum(of_head.values())
            expected = {name: share / total for name, share in of_head.items()}
            assert answer["probabilities"] == pytest.approx(expected, abs=1e-5)
            assert answer["label"] == max(expected, key=expected.get)
            right += answer["label"] == sample["label"]
        outputs[head] = right / len(samples)
    results = json.loads((steps.output / "results.json").read_text())["stages"]
    assert results[1]["metrics"]["pairs"]["accuracy"] == pytest.approx(outputs["pairs"])


def test_evaluate_gives_the_scores_of_the_run(steps, label_corpus, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    sources = [f"{name}={label_corpus.source(name, 'dev')}" for name in ("weather", "pairs")]
    command = ["evaluate", str(steps.output / "second/all/export"), "--cache", str(tmp_path)]
    data = ["--data", *sources, f"wetness={label_corpus.source('wetness', 'dev')}"]
    assert main([*command, *data, "--json", str(scores)]) == 0
    printed = capsys.readouterr().out
    assert "Matthews" in printed
    assert "Spearman" in printed
    assert "Accuracy or Spearman, a" in printed
    found = json.loads(scores.read_text())["languages"]
    (entry,) = json.loads((steps.output / "results.json").read_text())["stages"][1:]
    assert found["pairs"]["metrics"] == entry["metrics"]["pairs"]
    assert found["pairs"]["loss"] == pytest.approx(entry["validation_loss"])
    assert set(found["wetness"]["metrics"]) == {
        "spearman", "pearson", "mean_squared_error", "samples", "subsets",
    }  # fmt: skip
    error = found["wetness"]["metrics"]["mean_squared_error"]
    assert found["wetness"]["loss"] == pytest.approx(error, rel=1e-5)


def test_a_source_of_another_name_needs_its_head(steps, label_corpus, tmp_path, capsys):
    command = ["evaluate", str(steps.output / "second/all/export"), "--cache", str(tmp_path)]
    data = ["--data", f"pars={label_corpus.source('pairs', 'dev')}"]
    assert main([*command, *data]) == 2
    assert "no head answers for a source of this name" in capsys.readouterr().err
    assert main([*command, *data, "--head", "pair"]) == 2
    assert "Did you mean 'pairs'?" in capsys.readouterr().err
    assert main([*command, *data, "--head", "pairs"]) == 0
    assert main([*command, *data, "--head", "weather"]) == 2
    errors = capsys.readouterr().err
    assert "head weather does not know this label (value: fits)" in errors
    assert "sample dev" in errors


def test_reports_know_both_kinds_of_scores(steps, capsys):
    assert main(["report", str(steps.output)]) == 0
    text = (steps.output / "results.md").read_text()
    assert "| Language | Accuracy, first | Accuracy, second | Gain |" in text
    assert "Most frequent label" in text
    assert "Spearman" not in text
    assert "Label set" not in text
    page = (steps.output / "report.html").read_text()
    assert "always giving the most frequent one, on the validation data" in page


@pytest.mark.parametrize("label", ["weather", "wetness"])
def test_a_single_head_is_a_plain_classifier(label_corpus, tmp_path, label):
    changes = {
        "headrace.task": {
            "type": "sequence_classification", "max_length": 24,
            "labels": "score" if label == "wetness" else "discover",
        },
        "headrace.data.train": {"a": label_corpus.source(label, "train")},
        "headrace.data.validation": {},
        "headrace.stages": [{"name": "a", "keep_best": "last"}],
    }  # fmt: skip
    export = new_export(label_corpus, tmp_path, **changes)
    texts = [sample["text"] for sample in label_corpus.samples(label, "dev")]
    pipe = pipeline("text-classification", str(export), device="cpu")
    model = load_model(export, device=torch.device("cpu"))
    answers = list(label_texts(model, [Text(text, None) for text in texts], batch_size=7))
    for answer, own in zip(answers, pipe(texts), strict=True):
        if label == "wetness":
            assert answer.score == pytest.approx(own["score"], abs=1e-5)
        else:
            assert (answer.label, answer.probabilities[answer.label]) == (
                own["label"], pytest.approx(own["score"], abs=1e-5),
            )  # fmt: skip


def test_a_decoder_reads_the_last_token_before_the_padding(label_corpus, tmp_path):
    """As GPT-2 is published: its config knows no padding."""
    settings = GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    assert settings.pad_token_id is None
    GPT2Model(settings).save_pretrained(tmp_path / "body")
    path = label_corpus.write_config(
        tmp_path / "run.json", tmp_path / "out",
        **{"headrace.model": {
            "pretrained": str(tmp_path / "body"), "tokenizer": str(label_corpus.tokenizer),
        }},
    )  # fmt: skip
    config = load_run_config(path)
    opened = open_data(config)
    data = encode_data(opened, config)
    network = build_model(config.headrace.model, opened.task, opened.tokenizer, seed=1).eval()
    source = data.validation["pairs"]
    losses = [
        validate(network, {"pairs": source}, opened.task, WORLD, batch_size=size, pad=0).loss
        for size in (1, 16)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_model_of_another_origin_is_used_by_its_labels(label_corpus, tmp_path):
    export = new_export(label_corpus, tmp_path)
    (export / "headrace.json").unlink()
    (head,) = load_model(export).task.heads.all
    assert head.labels[0] == "weather:kite"
    settings = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(
        json.dumps({**settings, "problem_type": "multi_label_classification"})
    )
    with pytest.raises(LabelError, match="several labels"):
        load_model(export)


def test_facts_of_another_model_are_refused(label_corpus, tmp_path):
    export = new_export(label_corpus, tmp_path)
    facts = json.loads((export / "headrace.json").read_text())
    facts["heads"][0]["labels"].append("snow")
    (export / "headrace.json").write_text(json.dumps(facts))
    with pytest.raises(LabelError, match="do not belong together"):
        load_model(export)


def test_a_saved_model_with_other_heads_is_refused(label_corpus, tmp_path):
    export = new_export(label_corpus, tmp_path)
    heads = {
        "weather": {"sources": ["weather"], "labels": ["kite", "moon", "rain", "sun", "snow"]},
        "pairs": {"sources": ["pairs"], "labels": ["fits", "does not fit"]},
        "score": {"sources": ["wetness"], "labels": "score"},
    }
    task = {"type": "sequence_classification", "max_length": 24, "heads": heads}
    path = label_corpus.write_config(
        tmp_path / "run.json", tmp_path / "out",
        **{"headrace.model": {"pretrained": str(export)}, "headrace.task": task},
    )  # fmt: skip
    config = load_run_config(path)
    with pytest.raises(UserError) as caught:
        check_run(config, expand_stages(config), 1)
    assert [problem.what for problem in caught.value.problems] == [
        "head weather has 5 labels here, and 4 labels in the saved model",
        "head pairs has other labels here than in the saved model",
        "the config has no head wetness",
        "the saved model has no head score",
    ]
    assert all(str(export) in problem.where for problem in caught.value.problems)
    same = label_corpus.write_config(
        tmp_path / "same.json", tmp_path / "out2",
        **{"headrace.model": {"pretrained": str(export)}},
    )  # fmt: skip
    config = load_run_config(same)
    check_run(config, expand_stages(config), 1)


def problems_of_data(label_corpus, folder, heads):
    task = {"type": "sequence_classification", "max_length": 24, "heads": heads}
    path = label_corpus.write_config(folder / "a.json", folder / "a", **{"headrace.task": task})
    config = load_run_config(path)
    with pytest.raises(UserError) as caught:
        encode_data(open_data(config), config)
    return [(problem.what, problem.where, problem.value) for problem in caught.value.problems]


def test_labels_that_a_head_lacks_are_named_with_their_samples(label_corpus, tmp_path):
    found = problems_of_data(
        label_corpus,
        tmp_path,
        {
            "weather": {"sources": ["weather"], "labels": ["kite", "moon", "rain"]},
            "pairs": {"sources": ["pairs"], "labels": "score"},
            "wetness": {"sources": ["wetness"], "labels": ["wet", "dry"]},
        },
    )
    expected = [
        "head weather does not know this label",
        "the sample has no score, which head pairs learns",
        "the sample has no label, which head wetness learns",
    ]
    assert [what for what, _, _ in found] == 2 * expected
    assert found[0][2] == "sun"
    place = found[0][1].rpartition(" ")[2]
    labels = {
        f"train{number}": sample["label"]
        for number, sample in enumerate(label_corpus.samples("weather", "train"))
    }
    assert labels[place] == "sun"


def test_labels_to_discover_have_to_be_there(label_corpus, tmp_path):
    task = {"type": "sequence_classification", "max_length": 24}
    path = label_corpus.write_config(
        tmp_path / "a.json", tmp_path / "a",
        **{"headrace.task": task,
           "headrace.data.train": {"wetness": label_corpus.source("wetness", "train")},
           "headrace.data.validation": {}, "headrace.stages": [{"name": "a", "keep_best": "last"}]},
    )  # fmt: skip
    with pytest.raises(UserError, match="fewer than two different labels"):
        open_data(load_run_config(path))


def test_predict_names_every_mistake(label_corpus, tmp_path, capsys):
    export = new_export(label_corpus, tmp_path)
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"text": "dark"}\n{"text": 3}\n{"pair": "a"}\nno\n{"text": "a", "pair": 1}\n')
    command = ["predict", str(export), "--input", str(path), "--output", str(output)]
    assert main([*command, "--head", "pairs"]) == 2
    errors = capsys.readouterr().err
    for line in (2, 3, 4, 5):
        assert f"in.jsonl:{line}: " in errors
    path.write_text('{"text": "dark", "id": 7}\n{"text": "dark", "pair": "moon"}\n')
    assert main(command) == 2
    assert "the model has several heads" in capsys.readouterr().err
    assert main([*command, "--head", "pairs", "--output-format", "conll"]) == 2
    assert "labels are written as JSON lines" in capsys.readouterr().err
    assert main([*command, "--head", "wetness", "--max-length", "4"]) == 0
    assert "1 token in 1 text beyond 4 tokens, cut off" in capsys.readouterr().err
    first, second = (json.loads(line) for line in output.read_text().splitlines())
    assert first["id"] == "7"
    assert set(second) == {"id", "language", "score"}
    table = tmp_path / "in.tsv"
    table.write_text("a\tb\nmoon\tdark\n")
    command[3] = str(table)
    assert main([*command, "--head", "pairs"]) == 2
    assert "no column is known to be a text" in capsys.readouterr().err
    assert main([*command, "--head", "pairs", "--text-column", "b", "--pair-column", "a"]) == 0
    (found,) = (json.loads(line) for line in output.read_text().splitlines())
    assert set(found["probabilities"]) == {"fits", "does not fit"}


def test_a_dry_run_names_the_heads(label_corpus, tmp_path, capsys):
    config = label_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    assert main(["train", "--ds_config", str(config), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "weather: 4 labels, pairs: 2 labels, wetness: a score" in printed
    changes = {"headrace.batching": {"type": "packed"}}
    config = label_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
    assert main(["train", "--ds_config", str(config), "--dry-run"]) == 2
    assert "they cannot be packed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def joint_runs(label_corpus, launcher, tmp_path_factory):
    """Folders of runs of all heads at once by name, made by one pair of ranks."""
    folder = tmp_path_factory.mktemp("joint")
    whole = {"headrace.stages": [{"name": "joint", "epochs": 12}], "zero_optimization.stage": 2}
    few = {
        "headrace.stages": [{"name": "joint", "epochs": 2, "max_steps": 14}],
        **{"zero_optimization.stage": 1, "headrace.batching": TOKENS},
    }
    jobs, outputs = [], {}
    for name, changes, stop_after in (
        ("learned", {**whole, "headrace.model.dropout": 0.0}, None),
        ("first", few, None),
        ("stopped", few, 6),
    ):
        outputs[name] = folder / name
        config = label_corpus.write_config(folder / f"{name}.json", outputs[name], **changes)
        jobs.append({"config": str(config), "stop_after": stop_after})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    finished = launcher.run(WORKER, str(folder / "jobs.json"))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return outputs


@pytest.mark.slow
def test_a_small_network_learns_labels_pairs_and_scores_at_once(joint_runs):
    (entry,) = json.loads((joint_runs["learned"] / "results.json").read_text())["stages"]
    metrics = entry["metrics"]
    assert metrics["weather"]["accuracy"] > 0.95
    assert metrics["weather"]["matthews"] > 0.9
    assert set(metrics["weather"]["subsets"]) == {"a", "b"}
    assert metrics["pairs"]["accuracy"] > metrics["pairs"]["majority"] + 0.15
    assert metrics["wetness"]["spearman"] > 0.9
    assert metrics["wetness"]["mean_squared_error"] < 0.3


@pytest.mark.slow
def test_a_run_of_several_heads_goes_on_with_equal_losses(joint_runs, read_losses):
    first, stopped = read_losses(joint_runs["first"]), read_losses(joint_runs["stopped"])
    assert len(first) > 14
    assert first == stopped


@pytest.mark.slow
def test_reports_of_several_kinds_of_heads(joint_runs, capsys):
    assert main(["report", str(joint_runs["learned"])]) == 0
    text = (joint_runs["learned"] / "results.md").read_text()
    columns = "| Language | Accuracy | Macro F1 | Matthews | Spearman | Pearson |"
    assert f"{columns} Most frequent label |" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| wetness | – | – |"))
    assert row.count("–") == 4
    assert "squared errors" in text
    page = (joint_runs["learned"] / "report.html").read_text()
    assert "the most frequent one, and correlations with the right scores on the" in page
