"""The shipped run configs: all of them load, the papers' values are in them, and they train."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedModel, XLMRobertaConfig, XLMRobertaModel

from headrace.cli import main
from headrace.config import RunConfig, load_run_config
from headrace.config.checks import batch_arithmetic, stage_languages
from headrace.encoding.tokenizer import load_tokenizer, train_tokenizer
from headrace.shards import Sample, ShardReader, ShardWriter
from headrace.tasks.labels import load_label_set

FOLDER = Path(__file__).parents[1] / "ds_configs"
TRACKS = ["bn", "de", "en", "es", "fa", "fr", "hi", "it", "pt", "sv", "uk", "zh"]
TEAM_TRACKS = [name for name in TRACKS if name != "fa"]
XLMR = ("multiconer_xlmr_large", "multiconer_xlmr_large_v100")
MURIL = ("multiconer_muril_large", "multiconer_muril_large_v100")
V100 = (XLMR[1], MURIL[1])
BASELINE = "multiconer_xlmr_large_baseline"


def load(name: str, *overrides: str) -> RunConfig:
    return load_run_config(FOLDER / f"{name}.json", overrides)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_config_loads(path: Path) -> None:
    config = load_run_config(path)
    assert config.headrace.stages


@pytest.mark.parametrize("name", [*XLMR, *MURIL])
def test_values_that_both_setups_of_table_2_share(name: str) -> None:
    config = load(name)
    section, headrace = config.deepspeed, config.headrace
    first, second = headrace.stages
    assert first.epochs == 10
    assert second.epochs == 20
    assert section["train_batch_size"] == 64
    assert section["optimizer"]["type"] == "AdamW"
    assert headrace.model.dropout == 0.1
    assert headrace.task.max_length == 92
    assert len(load_label_set(headrace.task.labels).tags) == 67
    assert {stage.keep_best for stage in headrace.stages} == {"validation_loss"}
    assert {stage.learning_rate for stage in headrace.stages} == {None}
    assert {stage.mixture.temperature for stage in headrace.stages} == {1.0}
    assert headrace.schedule.type == "constant"
    assert (first.for_each, first.start_from) == (None, None)
    assert (second.for_each, second.start_from) == ("language", first.name)
    assert config.zero_stage == 2


@pytest.mark.parametrize("name", XLMR)
def test_xlmr_setup(name: str) -> None:
    config = load(name)
    assert config.headrace.model.pretrained == "xlm-roberta-large"
    assert config.learning_rate == 1e-6
    first, second = config.headrace.stages
    assert sorted(stage_languages(config.headrace, first)) == TRACKS
    assert sorted(stage_languages(config.headrace, second)) == TEAM_TRACKS


@pytest.mark.parametrize("name", MURIL)
def test_muril_setup(name: str) -> None:
    config = load(name)
    assert config.headrace.model.pretrained == "google/muril-large-cased"
    assert config.learning_rate == 5e-6
    for stage in config.headrace.stages:
        assert sorted(stage_languages(config.headrace, stage)) == ["bn", "en", "hi"]


def test_the_baseline_is_the_second_stage_alone() -> None:
    config, whole = load(BASELINE), load(XLMR[0])
    (stage,) = config.headrace.stages
    second = whole.headrace.stages[1]
    assert stage.start_from is None
    assert (stage.for_each, stage.epochs) == (second.for_each, second.epochs)
    assert sorted(stage_languages(config.headrace, stage)) == TEAM_TRACKS
    assert config.deepspeed == whole.deepspeed
    for part in ("task", "model", "schedule", "seed", "precision"):
        assert getattr(config.headrace, part) == getattr(whole.headrace, part)


def test_the_warm_start_and_its_control_are_one_network() -> None:
    before, after = (load(f"warm_start_{name}") for name in ("masked_lm", "two_stage"))
    assert before.headrace.model.tokenizer == after.headrace.model.tokenizer
    network = dict(before.headrace.model.config or {})
    assert network.pop("hidden_dropout_prob") == 0.1
    assert network == after.headrace.model.config
    text = {f"{name}_entities": folder for name, folder in after.headrace.data.train.items()}
    assert text.items() <= dict(before.headrace.data.train).items()


@pytest.mark.parametrize("name", [*XLMR, *MURIL, BASELINE])
def test_data_lies_where_the_build_commands_put_it(name: str) -> None:
    data = load(name).headrace.data
    for urls, split in ((data.train, "train"), (data.validation, "dev")):
        assert urls == {language: f"data/multiconer_v2/{language}/{split}" for language in urls}
    assert list(data.train) == list(data.validation)


@pytest.mark.parametrize("name", V100)
def test_v100_variants_differ_in_precision_only(name: str) -> None:
    config, base = load(name), load(name.removesuffix("_v100"))
    section = dict(config.deepspeed)
    assert section.pop("fp16") == {
        "enabled": True,
        "initial_scale_power": 12,
        "loss_scale_window": 500,
        "hysteresis": 2,
        "min_loss_scale": 1,
    }
    assert section == base.deepspeed
    ours, theirs = config.headrace.model_dump(), base.headrace.model_dump()
    assert (ours.pop("precision"), theirs.pop("precision")) == ("config", "auto")
    assert ours == theirs


@pytest.mark.parametrize("name", [*XLMR, *MURIL, BASELINE])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_batch_sizes_fit_usual_numbers_of_ranks(name: str, ranks: int) -> None:
    assert batch_arithmetic(load(name).deepspeed, ranks) == (64, 16, 4 // ranks)
    eight = load(name, "train_micro_batch_size_per_gpu=8").deepspeed
    assert batch_arithmetic(eight, 8) == (64, 8, 1)


def test_the_sweep_of_the_paper_is_planned(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["sweep", "--ds_config", str(FOLDER / f"{XLMR[0]}.json"), "--dry-run"]
    arguments += ["--grid", "optimizer.params.lr=1e-6,5e-6,1e-5"]
    arguments += ["--grid", "train_batch_size=16,32,64", "--output", str(tmp_path / "sweep")]
    arguments += ["--set", "train_micro_batch_size_per_gpu=4", "--ranks", "4"]
    assert main(arguments) == 0
    assert "9 runs (--item 0 to 8)" in capsys.readouterr().out


class TinyWorld:
    """A tokenizer, shards of three languages, and tiny networks of the recipes' classes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.urls: dict[str, dict[str, str]] = {"train": {}, "validation": {}}
        chance = random.Random(3)
        words = {
            "en": ["the", "river", "mill", "carries", "water", "ghent", "ada"],
            "hi": ["नदी", "पहाड़", "से", "पानी", "लाती", "है", "दिल्ली"],
            "bn": ["নদী", "পাহাড়", "থেকে", "জল", "আনে", "ঢাকা", "এবং"],
        }
        for language, vocabulary in words.items():
            for split, count in (("train", 80), ("validation", 20)):
                url = str(folder / language / split)
                self._write(url, language, count, vocabulary, chance)
                self.urls[split][language] = url
        readers = [ShardReader(url) for url in self.urls["train"].values()]
        self.tokenizer = load_tokenizer(
            train_tokenizer(readers, folder / "tokenizer", vocab_size=400)
        )

    def _write(
        self, url: str, language: str, count: int, vocabulary: list[str], chance: random.Random
    ) -> None:
        with ShardWriter(url) as writer:
            for number in range(count):
                tokens = chance.choices(vocabulary, k=chance.randint(2, 9))
                tags = ["B-HumanSettlement" if t == vocabulary[5] else "O" for t in tokens]
                facts = {"id": f"{number}", "language": language, "tokens": tokens, "tags": tags}
                fields = {"txt": " ".join(tokens).encode(), "json": json.dumps(facts).encode()}
                writer.write(Sample(f"s{number}", fields))

    def network(self, kind: str) -> Path:
        """A folder with a random encoder of the class that the recipe downloads."""
        folder = self.folder / kind
        settings: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1}
        settings |= {"num_attention_heads": 2, "intermediate_size": 16}
        settings |= {"vocab_size": len(self.tokenizer), "max_position_embeddings": 128}
        settings["pad_token_id"] = self.tokenizer.pad_token_id
        torch.manual_seed(0)
        model: PreTrainedModel
        if kind == "xlmr":
            model = XLMRobertaModel(XLMRobertaConfig(**settings))
        else:
            model = BertModel(BertConfig(**settings))
        model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(folder)
        return folder

    def overrides(self, name: str, languages: list[str]) -> list[str]:
        """What makes a recipe small: data, network, steps, and fp32 as the CPU has it."""
        parts = {
            split: json.dumps({language: urls[language] for language in languages})
            for split, urls in self.urls.items()
        }
        kind = "xlmr" if "xlmr" in name else "muril"
        settings = [f"headrace.data.{split}={urls}" for split, urls in parts.items()]
        settings += [f"headrace.data.cache_dir={self.folder / 'cache'}"]
        settings += [f"headrace.model.pretrained={self.network(kind)}"]
        settings += [f"headrace.output={self.folder / 'runs' / name}"]
        if name in V100:
            settings += ["fp16.enabled=false"]
        stages = load(name).headrace.stages
        for number, stage in enumerate(stages):
            settings += [f"headrace.stages.{number}.max_steps=3"]
            if stage.languages != "all":
                settings += [f"headrace.stages.{number}.languages={json.dumps(languages)}"]
        return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld(tmp_path_factory.mktemp("recipes"))


CLASSES = {"xlmr": "XLMRobertaForTokenClassification", "muril": "BertForTokenClassification"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*XLMR, *MURIL, BASELINE])
def test_dry_run(name: str, tiny: TinyWorld, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(FOLDER / f"{name}.json")
    overrides = tiny.overrides(name, ["en", "hi", "bn"])
    assert main(["train", "--ds_config", path, "--dry-run", "--ranks", "4", *overrides]) == 0
    plan = capsys.readouterr().out
    assert "64 = 4 ranks x 16 x 1 accumulation steps" in plan
    assert CLASSES["xlmr" if "xlmr" in name else "muril"] in plan
    assert "ZeRO 2" in plan


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [XLMR[1], pytest.param(MURIL[0], marks=pytest.mark.extended), BASELINE]
)
def test_a_recipe_trains(name: str, tiny: TinyWorld) -> None:
    languages = ["en", "hi"]
    command = [sys.executable, "-m", "headrace.cli", "train"]
    command += ["--ds_config", str(FOLDER / f"{name}.json"), *tiny.overrides(name, languages)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    output = tiny.folder / "runs" / name
    results = json.loads((output / "results.json").read_text())
    expected = [("monolingual", language) for language in languages]
    if name != BASELINE:
        expected.insert(0, ("multilingual", "all"))
    assert [(entry["stage"], entry["branch"]) for entry in results["stages"]] == expected
    assert all(entry["steps"] == 3 for entry in results["stages"])
    exported = json.loads((output / "monolingual" / "hi" / "export" / "config.json").read_text())
    assert exported["architectures"] == [CLASSES["xlmr" if "xlmr" in name else "muril"]]
    assert exported["hidden_dropout_prob"] == exported["attention_probs_dropout_prob"] == 0.1
    data = f"hi={tiny.urls['validation']['hi']}"
    assert main(["evaluate", str(output), "--data", data, "--cache", str(tiny.folder)]) == 0
