"""A source of noisy copies is one more source of a run, and noisy validation data a subset."""

import json

from headrace.config import load_run_config
from headrace.corpus.augment import augment_source
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages


def test_a_run_learns_from_noisy_copies_and_is_measured_on_some(small_corpus, world, tmp_path):
    noise = "typing:0.1,ocr:0.05,text_casing:0.2"
    train, dev = str(tmp_path / "train"), str(tmp_path / "dev")
    settings = {"share": 1.0, "copies": 1, "noise": noise}
    augment_source(small_corpus.source("en", "train"), train, only_copies=True, **settings)
    augment_source(small_corpus.source("en", "dev"), dev, subsets=True, **settings)
    weights = {"en": 0.7, "en-x-noisy": 0.3}
    path = small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "run",
        **{
            "headrace.data.train": {"en": small_corpus.source("en", "train"), "en-x-noisy": train},
            "headrace.data.validation": {"en": dev},
            "headrace.stages": [
                {"name": "both", "max_steps": 3, "mixture": {"weights": weights}}
            ],
        },
    )  # fmt: skip
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, StopFlag())
    (stage,) = json.loads((tmp_path / "run" / "results.json").read_text())["stages"]
    scores = stage["metrics"]["en"]
    assert scores["sentences"] == 48
    assert {name: part["sentences"] for name, part in scores["subsets"].items()} == {
        "clean": 24,
        "noisy": 24,
    }
