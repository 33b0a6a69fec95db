"""What the contestants of the benchmark ``training`` share: sentences, network, batches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from headrace.config import RunConfig, load_run_config
from headrace.corpus.build import build_source
from headrace.corpus.sample_corpus import generate, write_conll
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.shards.reader import ShardReader
from headrace.stream.batching import BatchPlan
from headrace.training.data import BatchMaker, RankBatch, RunData, encode_data, open_data
from headrace.training.data import token_lengths as lengths_of_sources
from headrace.training.model import build_model
from headrace.training.stages import Branch, expand_stages

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
WARMUP_RATIO = 0.1
MAX_GRADIENT_NORM = 1.0
LOG_EVERY = 10
"""Steps between two logged steps, as in the default of a run config."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark."""

    languages: tuple[str, ...]
    """Languages of the sample corpus; the n-th has 1 / n of the sentences of the first."""
    sentences: int
    """Sentences of the first language."""
    vocabulary: int
    hidden_size: int
    layers: int
    batch_size: int
    rounds: int
    """Rounds when the command does not say."""
    seed: int = 17


@dataclass(frozen=True)
class Setup:
    """Encoded sentences and everything that is the same for all contestants."""

    settings: Settings
    folder: Path
    data: RunData

    def config(self, output: str, zero_stage: int) -> RunConfig:
        """Return the run config for one run of our loop."""
        return _config(self.settings, self.folder, output, zero_stage)

    @cached_property
    def branch(self) -> Branch:
        """The only branch of the only stage."""
        return expand_stages(self.config("plan", 0))[0]

    @cached_property
    def plan(self) -> BatchPlan:
        """The batches of one epoch, as a run plans them."""
        batching = self.config("plan", 0).headrace.batching
        return BatchPlan(
            self.data.opened.plan(self.branch, self.settings.seed, self.data.train),
            lengths_of_sources(self.data.train[name] for name in self.branch.languages),
            batch_size=self.settings.batch_size,
            window_batches=batching.window_batches,
            sort_by_length=batching.sort_by_length,
        )

    @property
    def steps(self) -> int:
        """Steps of a run: one epoch, so that every contestant sees the same sentences."""
        return self.plan.steps_per_epoch

    def batch_maker(self) -> BatchMaker:
        """Return a new maker of our batches."""
        return BatchMaker(
            self.data,
            self.plan,
            self.branch,
            rank=0,
            world_size=1,
            micro_batch_size=self.settings.batch_size,
            accumulation=1,
        )

    @cached_property
    def batches(self) -> list[RankBatch]:
        """All batches of the epoch, made beforehand."""
        maker = self.batch_maker()
        return [maker.make(step) for step in range(self.steps)]

    def new_model(self) -> PreTrainedModel:
        """Return the network with the same first weights every time."""
        opened = self.data.opened
        section = self.config("plan", 0).headrace.model
        return build_model(section, opened.task, opened.tokenizer, seed=self.settings.seed)

    def sentences(self) -> list[dict[str, list[int]]]:
        """Return all sentences as lists of token ids and labels, language after language."""
        return [
            {
                "input_ids": shard.tokens(number).tolist(),
                "attention_mask": [1] * len(shard.tokens(number)),
                "labels": shard.labels(number).tolist(),
            }
            for language in self.branch.languages
            for shard in self.data.train[language].shards
            for number in range(len(shard))
        ]

    def describe(self) -> dict[str, str]:
        """Return what is measured, for people."""
        settings = self.settings
        parameters = sum(parameter.numel() for parameter in self.new_model().parameters())
        tokens = sum(batch.real_tokens for batch in self.batches)
        return {
            "network": f"BERT from scratch, {settings.layers} layers of {settings.hidden_size}, "
            f"{parameters:,} parameters, fp32, dropout 0.1",
            "data": f"sample corpus, {len(settings.languages)} languages, "
            f"{sum(batch.samples for batch in self.batches):,} sentences, {tokens:,} tokens",
            "steps": f"{self.steps} of {settings.batch_size} sentences; the first is not timed",
            "optimizer": f"torch AdamW (fused), gradients clipped to norm {MAX_GRADIENT_NORM}",
        }


def prepare(settings: Settings, folder: Path) -> Setup:
    """Write the sample corpus as shards, train a tokenizer on it, and encode it."""
    readers = []
    for number, language in enumerate(settings.languages):
        text = folder / f"{language}.conll"
        sentences = max(1, settings.sentences // (number + 1))
        write_conll(str(text), generate(language, "train", sentences, settings.seed))
        build_source([str(text)], str(folder / language), language)
        readers.append(ShardReader(str(folder / language)))
    train_tokenizer(readers, folder / "tokenizer", settings.vocabulary)
    config = _config(settings, folder, "plan", 0)
    return Setup(settings, folder, encode_data(open_data(config), config))


def _config(settings: Settings, folder: Path, output: str, zero_stage: int) -> RunConfig:
    content: dict[str, Any] = {
        "train_batch_size": settings.batch_size,
        "gradient_clipping": MAX_GRADIENT_NORM,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": LEARNING_RATE,
                "weight_decay": WEIGHT_DECAY,
                "torch_adam": True,
                "fused": True,
            },
        },
        "zero_optimization": {"stage": zero_stage},
        "headrace": {
            "output": str(folder / "runs" / output),
            "seed": settings.seed,
            "task": {"type": "token_classification", "labels": "multiconer_v2", "max_length": 92},
            "model": {
                "tokenizer": str(folder / "tokenizer"),
                "config": {
                    "model_type": "bert",
                    "hidden_size": settings.hidden_size,
                    "num_hidden_layers": settings.layers,
                    "num_attention_heads": 4,
                    "intermediate_size": 4 * settings.hidden_size,
                    "max_position_embeddings": 96,
                },
            },
            "data": {
                "cache_dir": str(folder / "encoded"),
                "train": {name: str(folder / name) for name in settings.languages},
            },
            "schedule": {"type": "cosine", "warmup_ratio": WARMUP_RATIO},
            "logging": {"every_steps": LOG_EVERY, "tensorboard": True},
            "stages": [{"name": "benchmark", "epochs": 1, "keep_best": "last"}],
        },
    }
    path = folder / "run.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return load_run_config(path)
