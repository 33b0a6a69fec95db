"""What the contestants of the benchmark ``training`` share: network, batches, config."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from headrace.benchmarks.training_data import write_sources
from headrace.config import RunConfig, load_run_config
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.shards.reader import ShardReader
from headrace.stream.batching import BatchPlan
from headrace.training.data import BatchMaker, RankBatch, RunData, encode_data, open_data
from headrace.training.data import token_lengths as lengths_of_sources
from headrace.training.distributed import World, barrier
from headrace.training.model import build_model
from headrace.training.precision import NATIVE_BF16, capability_of
from headrace.training.stages import Branch, expand_stages

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
WARMUP_RATIO = 0.1
MAX_GRADIENT_NORM = 1.0
MAX_LENGTH = 92
LOG_EVERY = 10
"""Steps between two logged steps, as in the default of a run config."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark."""

    languages: tuple[str, ...]
    """Languages of the sample corpus; the n-th has 1 / n of the sentences of the first."""
    sentences: int
    """Sentences of the first language of the sample corpus, and of each real one."""
    vocabulary: int
    hidden_size: int
    layers: int
    batch_size: int
    """Of all ranks together."""
    rounds: int
    """Rounds when the command does not say."""
    seed: int = 17
    task: Literal["token_classification", "masked_lm"] = "token_classification"
    corpora: Path | None = None
    """Folder with ``multiconer_v2`` and ``cv_sentences``; None: the sample corpus."""


@dataclass(frozen=True)
class Setup:
    """Encoded sentences and everything that is the same for all contestants."""

    settings: Settings
    folder: Path
    data: RunData
    world: World
    corpus: str
    """What the sentences are, for people."""

    def config(self, output: str, zero_stage: int) -> RunConfig:
        """Return the run config for one run of our loop."""
        bf16 = self.precision == "bf16"
        return _config(self.settings, self.folder, tuple(self.data.train), output, zero_stage, bf16)

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
            rank=self.world.rank,
            world_size=self.world.size,
            micro_batch_size=self.settings.batch_size // self.world.size,
            accumulation=1,
        )

    @cached_property
    def batches(self) -> list[RankBatch]:
        """All batches of the epoch as this rank has them, made beforehand."""
        maker = self.batch_maker()
        return [maker.make(step) for step in range(self.steps)]

    def new_model(self) -> PreTrainedModel:
        """Return the network with the same first weights every time."""
        opened = self.data.opened
        section = self.config("plan", 0).headrace.model
        return build_model(section, opened.task, opened.tokenizer, seed=self.settings.seed)

    def sentences(self) -> Iterator[dict[str, list[int]]]:
        """Yield all sentences as lists of token ids and, if they have any, labels."""
        labelled = self.settings.task == "token_classification"
        for source in self.data.train.values():
            for shard in source.shards:
                for number in range(len(shard)):
                    tokens = shard.tokens(number).tolist()
                    row = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
                    yield {**row, "labels": shard.labels(number).tolist()} if labelled else row

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """What all contestants compute in: bf16 where the device has it."""
        capability = capability_of(self.world.device)
        return "fp32" if capability is None or capability < NATIVE_BF16 else "bf16"

    @property
    def device_name(self) -> str:
        """The device of this rank."""
        device = self.world.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def describe(self) -> dict[str, str]:
        """Return what is measured, for people."""
        settings = self.settings
        parameters = sum(parameter.numel() for parameter in self.new_model().parameters())
        tokens = sum(batch.real_tokens for batch in self.batches)
        return {
            "network": f"BERT from scratch, {settings.layers} layers of {settings.hidden_size}, "
            f"{parameters:,} parameters, {self.precision}, dropout 0.1",
            "data": f"{self.corpus}, {len(self.data.train)} languages, "
            f"{sum(batch.samples for batch in self.batches):,} sentences, {tokens:,} tokens",
            "ranks": f"{self.world.size} on {self.device_name}",
            "steps": f"{self.steps} of {settings.batch_size} sentences; the first is not timed",
            "optimizer": f"torch AdamW (fused), gradients clipped to norm {MAX_GRADIENT_NORM}",
        }


def prepare(settings: Settings, folder: Path, world: World) -> Setup:
    """Write the sentences as shards, train a tokenizer on them, and encode them.

    The main rank does it; ``folder`` is one that all ranks see.
    """
    if world.is_main:
        made = write_sources(settings.task, settings.languages, settings.sentences,
                             settings.corpora, folder, settings.seed)  # fmt: skip
        readers = [ShardReader(str(folder / language)) for language in made.languages]
        train_tokenizer(readers, folder / "tokenizer", settings.vocabulary)
        (folder / "made.json").write_text(json.dumps([made.title, made.languages]))
        config = _config(settings, folder, made.languages, "plan")
        encode_data(open_data(config), config)
    barrier(world)
    title, languages = json.loads((folder / "made.json").read_text())
    config = _config(settings, folder, tuple(languages), "plan")
    return Setup(settings, folder, encode_data(open_data(config), config), world, title)


def _config(
    settings: Settings,
    folder: Path,
    languages: tuple[str, ...],
    output: str,
    zero_stage: int = 0,
    bf16: bool = False,
) -> RunConfig:
    task: dict[str, Any] = {"type": settings.task, "max_length": MAX_LENGTH}
    if settings.task == "token_classification":
        task["labels"] = "multiconer_v2"
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
        "bf16": {"enabled": bf16},
        "headrace": {
            "output": str(folder / "runs" / output),
            "seed": settings.seed,
            "task": task,
            "model": {
                "tokenizer": str(folder / "tokenizer"),
                "config": {
                    "model_type": "bert",
                    "hidden_size": settings.hidden_size,
                    "num_hidden_layers": settings.layers,
                    "num_attention_heads": 4,
                    "intermediate_size": 4 * settings.hidden_size,
                    "max_position_embeddings": MAX_LENGTH + 4,
                },
            },
            "data": {
                "cache_dir": str(folder / "encoded"),
                "train": {name: str(folder / name) for name in languages},
            },
            "schedule": {"type": "cosine", "warmup_ratio": WARMUP_RATIO},
            "logging": {"every_steps": LOG_EVERY, "tensorboard": True},
            "stages": [{"name": "benchmark", "epochs": 1, "keep_best": "last"}],
        },
    }
    path = folder / f"run-{os.getpid()}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return load_run_config(path)
