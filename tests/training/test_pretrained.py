"""A real pretrained encoder from a local folder, fine-tuned on real data and used elsewhere."""

import json
import os
from pathlib import Path

import pytest

from headrace.config import load_run_config
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

pytestmark = pytest.mark.slow

STEPS = 45


@pytest.fixture(scope="module")
def real_data() -> Path:
    folder = os.environ.get("HEADRACE_DATA")
    if not folder:
        pytest.skip("HEADRACE_DATA does not name a folder of real corpora")
    return Path(folder) / "multiconer_v1"


@pytest.fixture(scope="module")
def run(minilm, real_data, world, tmp_path_factory):
    """Fine-tune for English named entities (MultiCoNER I, six types); return the run folder."""
    from headrace.corpus.build import build_source
    from headrace.tasks.token_classification import TokenClassification
    from headrace.training.run import train_in_group

    folder = tmp_path_factory.mktemp("minilm")
    build_source([str(real_data / "en_train.conll")], str(folder / "train"), "en", limit=800)
    build_source([str(real_data / "en_dev.conll")], str(folder / "dev"), "en", limit=60)
    config = {
        "train_batch_size": 16,
        "optimizer": {"type": "AdamW", "params": {"lr": 5e-4}},
        "gradient_clipping": 1.0,
        "headrace": {
            "output": str(folder / "run"),
            "task": {"type": "token_classification", "labels": "multiconer_v1", "max_length": 48},
            "model": {"pretrained": str(minilm)},
            "data": {
                "cache_dir": str(folder / "encoded"),
                "train": {"en": str(folder / "train")},
                "validation": {"en": str(folder / "dev")},
            },
            "schedule": {"type": "linear", "warmup_ratio": 0.1},
            "stages": [{"name": "english", "epochs": 1, "max_steps": STEPS}],
            "logging": {"every_steps": 1, "tensorboard": False},
        },
    }
    path = folder / "run.json"
    path.write_text(json.dumps(config))
    loaded = load_run_config(path)
    in_training_mode = []
    plain_loss = TokenClassification.loss_sum

    def watched_loss(task, network, batch, *, training):
        if training:
            in_training_mode.append(network.module.training)
        return plain_loss(task, network, batch, training=training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenClassification, "loss_sum", watched_loss)
        train_in_group(loaded, expand_stages(loaded), world, StopFlag())
    assert in_training_mode == [True] * STEPS, "dropout must be on from the first step"
    return loaded.output


def test_it_learns(run):
    (stage,) = json.loads((run / "results.json").read_text())["stages"]
    assert stage["metrics"]["en"]["micro_f1"] > 0.15  # an untrained head has about 0


def test_the_encoder_starts_from_the_pretrained_weights(run, minilm):
    from safetensors.torch import load_file

    before = load_file(minilm / "model.safetensors")["encoder.layer.0.output.dense.weight"]
    after = load_file(run / "english" / "all" / "export" / "model.safetensors")[
        "bert.encoder.layer.0.output.dense.weight"
    ]
    # some small steps move the weights a little; new random weights would be far away
    assert 0 < (after - before).norm() < 0.5 * before.norm()


def test_transformers_pipeline_gives_the_same_predictions(run, tmp_path):
    from transformers import pipeline

    from headrace.cli import main

    model = run / "english" / "all" / "export"
    output = tmp_path / "predictions.jsonl"
    source = run.parent / "dev"
    arguments = ["predict", str(model), "--input", str(source), "--output", str(output)]
    assert main([*arguments, "--output-format", "jsonl"]) == 0
    ours = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert len(ours) == 60

    tagger = pipeline("token-classification", model=str(model), ignore_labels=[])
    compared = entities = 0
    for sentence in ours:
        theirs = {piece["start"]: piece["entity"] for piece in tagger(" ".join(sentence["tokens"]))}
        if len(theirs) > 44:
            continue  # we cut at 48 pieces, the pipeline does not
        start = 0
        for token, tag in zip(sentence["tokens"], sentence["tags"], strict=True):
            if start in theirs:
                assert theirs[start] == tag, (sentence["id"], token)
                compared += 1
                entities += tag != "O"
            start += len(token) + 1
    assert compared > 400
    assert entities > 10
