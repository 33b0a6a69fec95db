"""The data of a run: shards opened, labels known, samples encoded, batches made for this rank."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from headrace.config import RunConfig
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import Problem, UserError
from headrace.shards.reader import ShardReader
from headrace.stream.batching import Batches, BatchPlan, look_up
from headrace.stream.feistel import derive_key
from headrace.stream.grouping import PackPlan, TokenBudgetPlan
from headrace.stream.packing import Packs, samples_of
from headrace.stream.plan import Locations, Source, StagePlan
from headrace.stream.selected import Chosen
from headrace.stream.sources import stream_source
from headrace.tasks.registry import task_of_config
from headrace.tasks.task import IGNORED, Task
from headrace.training.flops import attention_pairs
from headrace.training.order import check_enough, constant_batch_size, plan_branch
from headrace.training.selection import RunSelection, check_selection
from headrace.training.sources import chosen_samples, open_shards
from headrace.training.stages import Branch


@dataclass(frozen=True)
class OpenedData:
    """Shards, tokenizer and task of a run; nothing is encoded yet."""

    tokenizer: PreTrainedTokenizerFast
    task: Task
    train: Mapping[str, ShardReader]
    validation: Mapping[str, ShardReader]
    chosen: Mapping[str, Chosen]
    """The samples of each training source that a selection chose; empty without one."""
    selection: RunSelection | None = None
    """That of the section ``headrace.selection``; ``chosen`` is empty until it is finished."""

    def is_known(self, branch: Branch) -> bool:
        """Whether it is known which samples a branch is trained on."""
        selection = self.selection
        return branch.stage.samples == "all" or selection is None or selection.report is not None

    def of(self, branch: Branch) -> OpenedData:
        """The data of a branch: whether it has regard to the selection."""
        return replace(self, chosen={}) if branch.stage.samples == "all" else self

    def sources(self, encoded: Mapping[str, EncodedSource] | None = None) -> dict[str, Source]:
        """Training data as the stream knows it, by language."""
        sources = {
            language: stream_source(language, reader, chosen=self.chosen.get(language))
            for language, reader in self.train.items()
        }
        if encoded is None:
            return sources
        # a task may have made several samples of one
        return {
            language: replace(
                source,
                shard_sizes=tuple(map(len, encoded[language].shards)),
                fingerprint=encoded[language].fingerprint,
            )
            for language, source in sources.items()
        }

    def plan(
        self, branch: Branch, seed: int, encoded: Mapping[str, EncodedSource] | None = None
    ) -> StagePlan:
        """Return the order of the samples of a branch.

        With ``encoded`` the plan is also bound to the tokenizer and the maximum length, since
        batches depend on lengths: a checkpoint refuses to go on with others.  Without it a task
        that cuts texts is planned as if each were one sample.
        """
        sources = self.of(branch).sources(encoded)
        return plan_branch(branch, [sources[language] for language in branch.languages], seed)


@dataclass(frozen=True)
class RunData:
    """Encoded data of a run."""

    opened: OpenedData
    train: Mapping[str, EncodedSource]
    """Training data by language, of a selection the chosen samples alone."""
    validation: Mapping[str, EncodedSource]
    whole: Mapping[str, EncodedSource]
    """All training data."""

    def of(self, branch: Branch) -> RunData:
        """The data of a branch: whether it has regard to the selection."""
        if branch.stage.samples != "all":
            return self
        return replace(self, opened=self.opened.of(branch), train=self.whole)


def open_data(config: RunConfig) -> OpenedData:
    """Open shards, tokenizer and what the task needs, such as a label set.

    Raises:
        UserError: with the problems of all of them.
    """
    headrace = config.headrace
    problems: list[Problem] = []

    train_urls, validation_urls = headrace.data.train, headrace.data.validation
    readers = open_shards(config, [*train_urls.values(), *validation_urls.values()], problems)
    train = {name: readers[url] for name, url in train_urls.items() if url in readers}
    validation = {name: readers[url] for name, url in validation_urls.items() if url in readers}
    selection = check_selection(config, problems)
    folder = headrace.data.selection if selection is None else selection.finished_folder
    chosen = chosen_samples(config, folder, train, problems)
    tokenizer: PreTrainedTokenizerFast | None = None
    task: Task | None = None
    try:
        tokenizer = load_tokenizer(headrace.model.tokenizer or str(headrace.model.pretrained))
    except UserError as error:
        problems.extend(error.problems)
    try:
        task = task_of_config(headrace.task, None if problems else train)
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
    if task is not None:
        problems += [*task.problems_of(train), *task.problems_of(validation)]
    if task is not None and tokenizer is not None:
        try:
            task = task.for_tokenizer(tokenizer)
        except UserError as error:
            problems.extend(error.problems)
    if problems or tokenizer is None or task is None:
        raise UserError(problems)
    return OpenedData(tokenizer, task, train, validation, chosen, selection)


def encode_data(
    opened: OpenedData,
    config: RunConfig,
    left_out: Mapping[str, Collection[str]] | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> RunData:
    """Open the encoded sidecars of all data, making those that are missing.

    Args:
        opened: shards, tokenizer and task.
        config: of the run; its ``data.bad_shards`` holds for training data alone, so that scores
            are always those of the whole validation data.
        left_out: names of training shards, by language, that are not even looked at.
        on_progress: as for :func:`encode_source`.

    Raises:
        UserError: with the problems of all sources.
    """
    problems: list[Problem] = []

    def encode(
        readers: Mapping[str, ShardReader],
        bad_shards: Literal["refuse", "quarantine"],
        left_out: Mapping[str, Collection[str]],
    ) -> dict[str, EncodedSource]:
        sources = {}
        for language, reader in readers.items():
            try:
                sources[language] = encode_source(
                    reader,
                    opened.task.encoder(opened.tokenizer, config.headrace.task.max_length),
                    cache_dir=Path(config.headrace.data.cache_dir),
                    language=language,
                    bad_shards=bad_shards,
                    left_out=[
                        number
                        for number, entry in enumerate(reader.manifest.shards)
                        if entry.name in left_out.get(language, ())
                    ],
                    on_progress=on_progress,
                )
            except UserError as error:
                problems.extend(error.problems)
            else:
                problems.extend(opened.task.problems_of_encoded(sources[language]))
        return sources

    whole = encode(opened.train, config.headrace.data.bad_shards, left_out or {})
    train = dict(whole)
    for language, chosen in opened.chosen.items():
        if language in whole:
            source = whole[language]
            try:
                train[language] = source.choosing(
                    chosen.shards, chosen.fingerprint(source.fingerprint)
                )
            except UserError as error:
                problems.extend(error.problems)
    validation = {
        language: source.living()
        for language, source in encode(opened.validation, "refuse", {}).items()
    }
    if problems:
        raise UserError(problems)
    return RunData(opened, train, validation, whole)


def plan_batches(
    config: RunConfig, branch: Branch, data: RunData, *, as_first_planned: bool = False
) -> Batches:
    """Return the batches of a branch, of the kind that ``headrace.batching`` asks for.

    With ``as_first_planned`` they have the places of removed samples that nothing stands in for.
    """
    headrace = config.headrace
    batching = headrace.batching
    plan = data.opened.plan(branch, headrace.seed, data.train)
    check_enough(branch, plan, constant_batch_size(config))
    lengths = token_lengths(data.train[language] for language in branch.languages)
    batch_size: int = config.deepspeed["train_batch_size"]
    quarantined = frozenset(
        (number, shard)
        for number, language in enumerate(branch.languages)
        for shard in data.train[language].left_out
    )
    absent = {
        (number, shard): rows
        for number, language in enumerate(branch.languages)
        for shard, rows in data.train[language].absent.items()
        if not as_first_planned
    }
    tables = Path(headrace.data.cache_dir).expanduser() / "batches"
    if batching.tokens_per_batch is not None:
        return TokenBudgetPlan(
            plan,
            lengths,
            tokens_per_batch=batching.tokens_per_batch,
            window_batches=batching.window_batches,
            table_folder=tables,
            quarantined=quarantined,
            absent=absent,
        )
    if batching.type == "packed":
        return PackPlan(
            plan,
            lengths,
            pack_length=batching.pack_length or headrace.task.max_length,
            batch_size=batch_size,
            window_batches=batching.window_batches,
            table_folder=tables,
            quarantined=quarantined,
            absent=absent,
        )
    return BatchPlan(
        plan,
        lengths,
        batch_size=batch_size,
        window_batches=batching.window_batches,
        sort_by_length=batching.sort_by_length,
        quarantined=quarantined,
        absent=absent,
    )


@dataclass(frozen=True)
class RankBatch:
    """What one rank computes for one step of the whole run."""

    step: int
    micro_batches: tuple[dict[str, torch.Tensor], ...]
    """As many as there are accumulation steps, each as the task's ``collate`` makes it."""
    samples: int
    """Samples of the whole batch, over all ranks."""
    labelled_tokens: int
    """Labels in the whole batch, of tokens or samples: what the summed loss is divided by."""
    real_tokens: int
    """Tokens of the whole batch without padding."""
    computed_tokens: int
    """Tokens of this rank's micro-batches with padding."""
    attention_pairs: int
    """Pairs of tokens of the same sample in this rank's micro-batches, without padding."""
    capacity: int | None
    """Tokens that a batch of its kind has room for; None where samples are counted."""


class BatchMaker:
    """Makes this rank's part of every batch of a branch."""

    def __init__(
        self,
        data: RunData,
        plan: Batches,
        branch: Branch,
        *,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        accumulation: int,
        pin_memory: bool = False,
    ) -> None:
        """``pin_memory`` is for tensors that are copied to a GPU while it computes."""
        self.task = data.opened.task
        self.sources = [data.train[language] for language in branch.languages]
        self.label_counts = [
            [shard.label_counts for shard in source.shards] for source in self.sources
        ]
        self.token_counts = [
            [shard.token_counts for shard in source.shards] for source in self.sources
        ]
        self.left_out = tuple(
            f"{language}/{source.shards[number].name}"
            for language, source in zip(branch.languages, self.sources, strict=True)
            for number in sorted(source.left_out)
        )
        """Shards that the batches are without, as a stream's state names them."""
        self.plan = plan
        self.key = label_key(plan.plan)
        """What the task draws by chance depends on it."""
        self.pack_length = plan.size if isinstance(plan, PackPlan) else 0
        self.pad = data.opened.tokenizer.pad_token_id
        self.rank = rank
        self.world_size = world_size
        self.micro_batch_size = micro_batch_size
        self.accumulation = accumulation
        self.pin_memory = pin_memory

    @property
    def samples_at_once(self) -> int:
        """How many samples of the greatest length fit a micro-batch."""
        longest = max(source.longest for source in self.sources)
        if isinstance(self.plan, TokenBudgetPlan):
            tokens = self.plan.size // (self.world_size * self.accumulation)
            return max(1, tokens // longest)
        return self.micro_batch_size * max(1, self.pack_length // longest)

    def make(self, step: int) -> RankBatch:
        """Return this rank's part of the batch of a step: a pure function of the step."""
        whole = self.plan.batch(step)
        samples = samples_of(whole)
        micro_batches = tuple(
            self._tensors(part)
            for part in self.plan.split(
                whole, self.rank, self.world_size, self.micro_batch_size, self.accumulation
            )
        )
        return RankBatch(
            step=step,
            micro_batches=micro_batches,
            samples=len(samples),
            labelled_tokens=self.task.labels_in(
                look_up(self.label_counts, samples), self.sources, samples, self.key
            ),
            real_tokens=int(look_up(self.token_counts, samples).sum()),
            computed_tokens=sum(batch["input_ids"].numel() for batch in micro_batches),
            attention_pairs=sum(map(attention_pairs, micro_batches)),
            capacity=self.plan.capacity(whole),
        )

    def _tensors(self, part: Locations | Packs) -> dict[str, torch.Tensor]:
        if not len(part):
            # Every rank must take part in the collectives of every micro-batch, also one that has
            # no sample for it.
            tensors = self._idle_pack() if self.pack_length else self.task.idle(self.pad)
        elif isinstance(part, Packs):
            arrays = self.task.collate_packed(
                self.sources,
                part.samples,
                part.starts,
                pad_id=self.pad,
                pack_length=self.pack_length,
                key=self.key,
            )
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        else:
            tensors = collate(self.task, self.sources, part, self.pad, self.key)
        if self.pin_memory:
            return {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return tensors

    def _idle_pack(self) -> dict[str, torch.Tensor]:
        """One token without a label, as a row of packed samples."""
        one = torch.ones((1, 1), dtype=torch.int64)
        return {
            "input_ids": self.pad * one,
            "labels": IGNORED * one,
            "position_ids": 0 * one,
            "segments": one,
        }


def label_key(plan: StagePlan) -> int:
    """Return the key of what a task draws by chance for the samples of a stage."""
    return derive_key("labels", plan.seed, plan.stage)


def collate(
    task: Task,
    sources: Sequence[EncodedSource],
    locations: Locations,
    pad: int,
    key: int | None = None,
) -> dict[str, torch.Tensor]:
    """Return a batch of a task as tensors; see :meth:`Task.collate`."""
    arrays = task.collate(sources, locations, pad_id=pad, key=key)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def token_lengths(sources: Iterable[EncodedSource]) -> list[list[NDArray[np.int32]]]:
    """Return what all samples cost in a batch, as the stream wants it: by source, then by shard."""
    return [[shard.lengths for shard in source.shards] for source in sources]
