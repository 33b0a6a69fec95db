"""What a task has to provide so that a network can be trained, measured and exported for it.

Everything else (the stream, batches, the step, checkpoints, reports) is the same for all tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.config.task_sections import TaskSection
from headrace.encoding.collate import SampleLocations, collate_packed
from headrace.encoding.sidecar import EncodedSource
from headrace.encoding.task_encoder import TaskEncoder
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

IGNORED = -100
"""Label that has no part in the loss (the convention of torch's cross-entropy)."""


class Scores(Protocol):
    """An account of answers, added up sample by sample.

    Processes that evaluate a share of the samples each exchange ``counts()`` and ``merge`` them;
    the result does not depend on the division or the order.
    """

    def counts(self) -> dict[str, Any]:
        """All counts as a JSON-able object, for :meth:`merge` in another process."""
        ...

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the ``counts()`` of another object of the same kind."""
        ...

    def result(self) -> dict[str, Any]:
        """All scores as a JSON-able object: one entry of ``metrics`` in ``results.json``.

        It has ``subsets``, with the same scores by the name of a part of the data.
        """
        ...


class Task(ABC):
    """A task, with its settings."""

    name: ClassVar[str]
    """As in a run config."""
    section: ClassVar[type[TaskSection]]
    """Its section in a run config, whose ``type`` is the name."""
    model_class: ClassVar[Any]
    """Makes the network: a class of ``transformers`` such as ``AutoModelForMultipleChoice``."""
    pipeline_tag: ClassVar[str]
    """Name of the task on the hub."""
    new_modules: ClassVar[tuple[str, ...]] = ()
    """Parts of the base network that are trained from new weights where a pretrained folder lacks
    them, as the head is."""
    number_scores: ClassVar[frozenset[str]] = frozenset()
    """Scores that are no fractions: tables show them as they are, not in percent."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    """Scores of which less is better."""
    is_causal: ClassVar[bool] = False
    """Whether the network looks at earlier tokens alone."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Any, train: Mapping[str, ShardReader] | None) -> Task | None:
        """Return the task of a run.

        Args:
            config: section ``task`` of a run config, a :attr:`section`.
            train: the training sources by name, for what is to be found there; None if they cannot
                all be read, and then a task that needs them is None.

        Raises:
            UserError: with all that is wrong with the settings.
        """

    @classmethod
    @abstractmethod
    def of_model(
        cls, settings: Any, facts: Mapping[str, Any], where: str
    ) -> tuple[Task, Sequence[int]]:
        """Return the task of an exported model, and in which order it wants the model's outputs.

        Args:
            settings: the model's Hugging Face config.
            facts: what :meth:`facts` gave when it was exported; empty for another origin.
            where: the model, for messages.

        Raises:
            UserError: if the model is not one for this task.

        The order is empty where the outputs stay as they are.
        """

    @property
    @abstractmethod
    def scores(self) -> Mapping[str, str]:
        """The scores that tables and curves show, with titles, the main one first.

        They are fractions, and more is better, but for :attr:`number_scores` and
        :attr:`lower_is_better`.  A source need not have all of them.
        """

    def describe_scores(self) -> dict[str, dict[str, Any]]:
        """Return title and kind of each score, JSON-able, for tables made without the task."""
        return {
            name: {
                "title": title,
                "is_number": name in self.number_scores,
                "lower_is_better": name in self.lower_is_better,
            }
            for name, title in self.scores.items()
        }

    @property
    @abstractmethod
    def described(self) -> tuple[str, str]:
        """What it is called and what it learns, for people: ``("labels", "conll2003, 9 tags")``."""

    @abstractmethod
    def model_settings(self) -> dict[str, Any]:
        """Return the settings of a Hugging Face config that the task decides."""

    @abstractmethod
    def encoder(self, tokenizer: Any, max_length: int) -> TaskEncoder:
        """Return a new encoder, for one source."""

    def for_tokenizer(self, tokenizer: Any) -> Task:
        """Return the task as it is for the texts of a tokenizer.

        Raises:
            UserError: if the tokenizer lacks something that the task needs.
        """
        return self

    @abstractmethod
    def collate(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        *,
        pad_id: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return samples as one batch, padded: ``input_ids``, ``labels`` and what else is needed.

        ``labels`` are those that :meth:`loss_sum` adds up the loss of.

        Args:
            sources: what the samples are of.
            locations: one a sample.
            pad_id: id of the padding token.
            key: what is drawn for a sample by chance depends on it, on the sample, and on how often
                its source was gone through, and on nothing else; None: always the same, as in
                validation.
        """

    def collate_packed(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        starts: NDArray[np.int64],
        *,
        pad_id: int,
        pack_length: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return samples as one batch, several in a row: see :func:`collate_packed`.

        This default is for tasks whose tokens have labels in the sidecar.
        """
        return collate_packed(sources, locations, starts, pad_id=pad_id, pack_length=pack_length)

    def labels_in(
        self,
        label_counts: NDArray[np.int32],
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        key: int | None,
    ) -> int:
        """Return how many labels some samples have together, as :meth:`collate` makes them.

        Args:
            label_counts: those of each sample by its shard.
            sources: as for :meth:`collate`.
            locations: as for :meth:`collate`.
            key: as for :meth:`collate`.
        """
        return int(label_counts.sum())

    @abstractmethod
    def idle(self, pad_id: int) -> dict[str, torch.Tensor]:
        """Return a batch as small as can be, without a label."""

    @abstractmethod
    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss over the labels of a batch, and the logits.

        Args:
            network: a network of :attr:`model_class`, or an engine around it.
            batch: from :meth:`collate`, on the network's device.
            training: whether what is for training alone (label smoothing) takes part.  It is not
                asked of the network: DeepSpeed's engine does not change its own ``training`` in
                ``eval()``.

        The sum, not the mean, is what can be added over micro-batches and ranks: the caller divides
        by the number of labels of the whole batch.  It is computed in fp32 at least.
        """

    def draw_labels(
        self, logits: torch.Tensor, batch: Mapping[str, Any], random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return what a batch has as labels, drawn from what the network predicts.

        Args:
            logits: of the batch, from :meth:`loss_sum`.
            batch: says which labels there are: those that have no part in the loss stay.
            random: a generator of the CPU, so that every device draws the same.

        The loss of what is drawn is minus the logarithm of its probability, but for a constant.
        This default is for tasks whose logits have one number a class as their last dimension.
        """
        labels: torch.Tensor = batch["labels"]
        probabilities = logits.detach().float().softmax(-1).flatten(0, -2).cpu()
        drawn = torch.multinomial(probabilities, 1, generator=random).view(labels.shape)
        return {"labels": torch.where(labels == IGNORED, labels, drawn.to(labels.device))}

    @abstractmethod
    def new_scores(self) -> Scores:
        """Return an empty account."""

    @abstractmethod
    def score(
        self,
        scores: Any,
        source: EncodedSource,
        samples: SampleLocations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Add the answers to some samples of a source to an account of :meth:`new_scores`.

        Args:
            scores: the account.
            source: where the samples are from.
            samples: those of the batch, in its order.
            logits: of the batch, from :meth:`loss_sum`.
            batch: from :meth:`collate`, on the network's device.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what has to be known to use an exported model, JSON-able."""

    def problems_of(self, sources: Mapping[str, ShardReader]) -> list[Problem]:
        """Return what is wrong with sources, by name, as far as their manifests tell."""
        return []

    def problems_of_network(self, settings: Any) -> list[Problem]:
        """Return what keeps a network, by its Hugging Face config, from learning the task."""
        return []

    def problems_of_saved(self, facts: Mapping[str, Any], where: str) -> list[Problem]:
        """Return what keeps an exported model, by its facts, from being trained further."""
        return []

    def problems_of_encoded(self, source: EncodedSource) -> list[Problem]:
        """Return what is wrong with an encoded source for this task's settings."""
        return []
