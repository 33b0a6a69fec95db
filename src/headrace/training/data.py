"""The data of a run: shards opened, labels known, samples encoded, batches made for this rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from headrace.config import RunConfig
from headrace.encoding.collate import collate_token_classification
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import Problem, UserError
from headrace.shards.reader import ShardReader, open_readers
from headrace.stream.batching import BatchPlan, look_up
from headrace.stream.plan import Locations, StagePlan
from headrace.tasks.labels import LabelSet, discover_label_set, load_label_set
from headrace.tasks.token_classification import IGNORED, TokenClassification
from headrace.training.order import plan_branch, stream_source
from headrace.training.stages import Branch


@dataclass(frozen=True)
class OpenedData:
    """Shards, tokenizer and task of a run; nothing is encoded yet."""

    tokenizer: PreTrainedTokenizerFast
    task: TokenClassification
    train: Mapping[str, ShardReader]
    validation: Mapping[str, ShardReader]

    def plan(
        self, branch: Branch, seed: int, encoded: Mapping[str, EncodedSource] | None = None
    ) -> StagePlan:
        """Return the order of the samples of a branch.

        With ``encoded`` the plan is also bound to the tokenizer and the maximum length, since
        batches depend on lengths: a checkpoint refuses to go on with others.
        """
        sources = [
            stream_source(
                language, self.train[language], encoded[language].fingerprint if encoded else None
            )
            for language in branch.languages
        ]
        return plan_branch(branch, sources, seed)


@dataclass(frozen=True)
class RunData:
    """Encoded data of a run."""

    opened: OpenedData
    train: Mapping[str, EncodedSource]
    validation: Mapping[str, EncodedSource]


def open_data(config: RunConfig) -> OpenedData:
    """Open shards, tokenizer and label set.

    Raises:
        UserError: with the problems of all of them.
    """
    headrace = config.headrace
    problems: list[Problem] = []

    train_urls, validation_urls = headrace.data.train, headrace.data.validation
    readers = open_readers([*train_urls.values(), *validation_urls.values()], problems)
    train = {name: readers[url] for name, url in train_urls.items() if url in readers}
    validation = {name: readers[url] for name, url in validation_urls.items() if url in readers}
    tokenizer: PreTrainedTokenizerFast | None = None
    label_set: LabelSet | None = None
    try:
        tokenizer = load_tokenizer(headrace.model.tokenizer or str(headrace.model.pretrained))
    except UserError as error:
        problems.extend(error.problems)
    try:
        if headrace.task.labels != "discover":
            label_set = load_label_set(headrace.task.labels)
        elif not problems:
            label_set = discover_label_set(train.values())
    except UserError as error:
        problems.extend(error.problems)
    if tokenizer is not None and tokenizer.pad_token_id is None:
        problems.append(
            Problem(
                "the tokenizer has no padding token",
                "headrace.model.tokenizer",
                str(headrace.model.tokenizer or headrace.model.pretrained),
                "Add one: tokenizer.add_special_tokens, then save_pretrained",
            )
        )
    if label_set is not None:
        problems += _unknown_types(label_set, [*train.values(), *validation.values()])
    if problems or tokenizer is None or label_set is None:
        raise UserError(problems)
    task = TokenClassification(label_set, label_smoothing=headrace.task.label_smoothing)
    return OpenedData(tokenizer, task, train, validation)


def _unknown_types(label_set: LabelSet, readers: Iterable[ShardReader]) -> list[Problem]:
    """Find the entity types that manifests count and the label set lacks.

    Sources whose manifest counts no types are checked tag by tag when they are encoded.
    """
    return [
        label_set.unknown_tag(f"B-{name}", reader.url)
        for reader in readers
        for name in sorted(reader.manifest.metadata.get("entities", {}))
        if name not in label_set.types
    ]


def encode_data(opened: OpenedData, config: RunConfig) -> RunData:
    """Open the encoded sidecars of all data, making those that are missing.

    Raises:
        UserError: with the problems of all sources.
    """
    problems: list[Problem] = []

    def encode(readers: Mapping[str, ShardReader]) -> dict[str, EncodedSource]:
        sources = {}
        for language, reader in readers.items():
            try:
                sources[language] = encode_source(
                    reader,
                    opened.tokenizer,
                    opened.task.label_set,
                    max_length=config.headrace.task.max_length,
                    cache_dir=Path(config.headrace.data.cache_dir),
                    language=language,
                )
            except UserError as error:
                problems.extend(error.problems)
        return sources

    train, validation = encode(opened.train), encode(opened.validation)
    if problems:
        raise UserError(problems)
    return RunData(opened, train, validation)


@dataclass(frozen=True)
class RankBatch:
    """What one rank computes for one step of the whole run."""

    step: int
    micro_batches: tuple[dict[str, torch.Tensor], ...]
    """As many as there are accumulation steps; int64[samples, tokens] each."""
    samples: int
    """Samples of the whole batch, over all ranks."""
    labelled_tokens: int
    """Tokens with a label in the whole batch: what the summed loss is divided by."""
    real_tokens: int
    """Tokens of the whole batch without padding."""
    computed_tokens: int
    """Tokens of this rank's micro-batches with padding."""


class BatchMaker:
    """Makes this rank's part of every batch of a branch."""

    def __init__(
        self,
        data: RunData,
        plan: BatchPlan,
        branch: Branch,
        *,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        accumulation: int,
    ) -> None:
        self.sources = [data.train[language] for language in branch.languages]
        self.label_counts = [
            [shard.label_counts for shard in source.shards] for source in self.sources
        ]
        self.plan = plan
        self.pad = data.opened.tokenizer.pad_token_id
        self.rank = rank
        self.world_size = world_size
        self.micro_batch_size = micro_batch_size
        self.accumulation = accumulation

    def make(self, step: int) -> RankBatch:
        """Return this rank's part of the batch of a step: a pure function of the step."""
        whole = self.plan.batch(step)
        parts = self.plan.split(
            whole, self.rank, self.world_size, self.micro_batch_size, self.accumulation
        )
        micro_batches = tuple(self._tensors(part, whole) for part in parts)
        return RankBatch(
            step=step,
            micro_batches=micro_batches,
            samples=len(whole),
            labelled_tokens=int(look_up(self.label_counts, whole).sum()),
            real_tokens=int(self.plan.lengths_of(whole).sum()),
            computed_tokens=sum(batch["input_ids"].numel() for batch in micro_batches),
        )

    def _tensors(self, part: Locations, whole: Locations) -> dict[str, torch.Tensor]:
        if len(part):
            return collate(self.sources, part, self.pad)
        # Every rank must take part in the collectives of every micro-batch, also one that has no
        # sample for it: it computes the shortest sample of the batch with every label ignored.
        tensors = collate(self.sources, whole.take(slice(0, 1)), self.pad)
        tensors["labels"] = torch.full_like(tensors["labels"], IGNORED)
        return tensors


def collate(
    sources: list[EncodedSource], locations: Locations, pad: int
) -> dict[str, torch.Tensor]:
    """Return ``input_ids``, ``attention_mask`` and ``labels`` as int64[samples, tokens]."""
    arrays = collate_token_classification(sources, locations, pad_id=pad)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def token_lengths(sources: Iterable[EncodedSource]) -> list[list[NDArray[np.int32]]]:
    """Return the lengths of all samples as the stream wants them: by source, then by shard."""
    return [[shard.lengths for shard in source.shards] for source in sources]
