"""Sequence classification: a label, or a score, for a text or a pair, by the head of its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from headrace.config.messages import did_you_mean
from headrace.config.task_sections import SequenceClassificationConfig
from headrace.encoding.collate import SampleLocations, collate_texts
from headrace.encoding.sequence_classification import SequenceClassificationEncoder
from headrace.encoding.sidecar import EncodedSource
from headrace.errors import Problem
from headrace.tasks.class_metrics import SequenceScores
from headrace.tasks.heads import Head, Heads, heads_of_config
from headrace.tasks.model_labels import heads_of_model
from headrace.tasks.pair_inputs import pair_inputs
from headrace.tasks.task import IGNORED, Task

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

_OF_LABELS = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "matthews": "Matthews"}
_OF_SCORES = {"spearman": "Spearman", "pearson": "Pearson"}


class SequenceClassification(Task):
    """The task of labelling texts, for some heads.

    A source is told by its name: ``EncodedSource.language``.
    """

    name = "sequence_classification"
    section = SequenceClassificationConfig
    model_class = AutoModelForSequenceClassification
    pipeline_tag = "text-classification"
    # What an encoder was pretrained with may have no use for it.
    new_modules = ("pooler",)

    def __init__(self, heads: Heads, *, label_smoothing: float = 0.0) -> None:
        self.heads = heads
        self.label_smoothing = label_smoothing

    @classmethod
    def from_config(
        cls, config: SequenceClassificationConfig, train: Mapping[str, ShardReader] | None
    ) -> SequenceClassification | None:
        """Return the task of a run; its labels may be those of the training shards."""
        heads = heads_of_config(config, train)
        return None if heads is None else cls(heads, label_smoothing=config.label_smoothing)

    @classmethod
    def of_model(
        cls, settings: Any, facts: Mapping[str, Any], where: str
    ) -> tuple[SequenceClassification, Sequence[int]]:
        """Return the task of a model, with the heads that it was trained with."""
        return cls(heads_of_model(settings.id2label, settings.problem_type, facts, where)), ()

    @property
    def scores(self) -> Mapping[str, str]:
        """Scores of the kinds of heads there are; a source has those of its own head."""
        kinds = [head.labels is None for head in self.heads.all]
        return {
            **(_OF_LABELS if not all(kinds) else {}),
            **(_OF_SCORES if any(kinds) else {}),
        }

    @property
    def described(self) -> tuple[str, str]:
        """What each head answers with."""
        heads = self.heads.all
        if len(heads) == 1:
            return "task", f"sequence classification, {heads[0].described}"
        return "heads", ", ".join(f"{head.name}: {head.described}" for head in heads)

    def model_settings(self) -> dict[str, Any]:
        """Return the settings of a Hugging Face config that carry the names of all outputs."""
        names = self.heads.names_of_outputs
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": self._problem_type,
        }

    @property
    def _problem_type(self) -> str | None:
        """What transformers makes of the outputs by itself: it knows no heads."""
        if len(self.heads.all) > 1:
            return None
        is_score = self.heads.all[0].labels is None
        return "regression" if is_score else "single_label_classification"

    def encoder(self, tokenizer: Any, max_length: int) -> SequenceClassificationEncoder:
        """Return a new encoder, for one source."""
        return SequenceClassificationEncoder(tokenizer, max_length)

    def collate(
        self,
        sources: Sequence[EncodedSource],
        locations: SampleLocations,
        *,
        pad_id: int,
        key: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Return texts (:func:`collate_texts`), and for each sample, ``[samples]``:

        ``labels``, int64: the output that stands for its label, or for its score;
        ``head_starts`` and ``head_sizes``, int64: the outputs of its head;
        ``scores``, float32: its score, or not a number.
        """
        where = zip(
            locations.source.tolist(),
            locations.shard.tolist(),
            locations.sample.tolist(),
            strict=True,
        )
        rows = []
        for source, shard, sample in where:
            head = self.heads.of(sources[source].language)
            encoded = sources[source].shards[shard]
            label, score = head.start, np.nan
            if head.labels is None:
                score = encoded.score(sample)
            else:
                label += head.numbers[str(encoded.label_name(sample))]
            rows.append((label, head.start, head.size, score))
        labels, starts, sizes, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
        return {
            **collate_texts(sources, locations, pad_id=pad_id),
            "labels": np.array(labels, dtype=np.int64),
            "head_starts": np.array(starts, dtype=np.int64),
            "head_sizes": np.array(sizes, dtype=np.int64),
            "scores": np.array(scores, dtype=np.float32),
        }

    def idle(self, pad_id: int) -> dict[str, torch.Tensor]:
        """Return one token without a label."""
        one = torch.ones((1, 1), dtype=torch.int64)
        return {
            "input_ids": pad_id * one,
            "attention_mask": one,
            "token_type_ids": 0 * one,
            "labels": IGNORED * one[0],
            "head_starts": 0 * one[0],
            "head_sizes": self.heads.size * one[0],
            "scores": torch.full((1,), torch.nan),
        }

    def logits(self, network: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the outputs of the network, [samples, outputs].

        Those that belong to other heads than that of a sample are minus infinity.
        """
        logits: torch.Tensor = network(**pair_inputs(network, batch)).logits
        return logits.masked_fill(_foreign(logits, batch), -torch.inf)

    def loss_sum(
        self, network: torch.nn.Module, batch: Mapping[str, Any], *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss of the samples, and the logits, as :meth:`logits` does.

        It is the cross-entropy over the labels of a sample's head, which are smoothed in training,
        and the squared error of a score.
        """
        logits = self.logits(network, batch)
        labels, scores = batch["labels"], batch["scores"]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        output = labels.clamp(min=0)[:, None]
        shares = wide.log_softmax(-1)
        losses = -shares.gather(1, output)[:, 0]
        if training and self.label_smoothing:
            # torch's own smoothing would give the other heads a share, of infinite loss
            spread = -shares.masked_fill(_foreign(logits, batch), 0).sum(-1) / batch["head_sizes"]
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * spread
        is_score = scores.isfinite()
        # The cross-entropy over one output is 0, and so is its gradient.  The number that is put
        # in place of a missing score keeps its square, which has no part, from being no number.
        errors = (wide.gather(1, output)[:, 0] - scores.nan_to_num()) ** 2
        losses = losses + errors.masked_fill(~is_score, 0)
        return losses.masked_fill(labels < 0, 0).sum(), logits

    def draw_labels(
        self, logits: torch.Tensor, batch: Mapping[str, Any], random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return labels, each with its chance among those of its head, and scores.

        Scores are drawn from the normal distribution whose minus log-probability the squared error
        is: its mean is what the network says, its variance 1/2.
        """
        drawn = super().draw_labels(logits, batch, random)
        scores: torch.Tensor = batch["scores"]
        noise = 0.5**0.5 * torch.randn(len(scores), generator=random)
        said = logits.detach().float().gather(1, drawn["labels"].clamp(min=0)[:, None])[:, 0]
        return {**drawn, "scores": (said + noise.to(said.device)).where(scores.isfinite(), scores)}

    def new_scores(self) -> SequenceScores:
        """Return an empty account."""
        return SequenceScores()

    def score(
        self,
        scores: SequenceScores,
        source: EncodedSource,
        samples: SampleLocations,
        logits: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> None:
        """Add the answers of the source's head to some samples, beside the right ones."""
        head = self.heads.of(source.language)
        own = logits[:, head.start : head.stop].double()
        answers = own[:, 0].tolist() if head.labels is None else own.argmax(-1).tolist()
        places = zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)
        for answer, (shard_number, index) in zip(answers, places, strict=True):
            shard = source.shards[shard_number]
            subset = shard.subset(index)
            if head.labels is None:
                scores.add_score(shard.score(index), answer, subset=subset)
            else:
                label = str(shard.label_name(index))
                scores.add_label(label, head.labels[answer], subset=subset)

    def facts(self) -> dict[str, Any]:
        """Return the heads."""
        return {"heads": self.heads.facts()}

    def problems_of(self, sources: Mapping[str, ShardReader]) -> list[Problem]:
        """Find sources without a head, and labels that manifests count and the head lacks.

        Sources whose manifest counts none are checked sample by sample when they are encoded.
        """
        problems = []
        for name, reader in sources.items():
            if not self.heads.have(name):
                named = {source for head in self.heads.all for source in head.sources or ()}
                what = "no head answers for a source of this name"
                remedy = f"{did_you_mean(name, named)} Or choose the head"
                problems.append(Problem(what, reader.url, name, remedy))
                continue
            head = self.heads.of(name)
            counts = reader.manifest.metadata.get("labels", {}) if head.labels else {}
            problems += [
                _unknown_label(head, label, reader.url)
                for label in sorted(counts)
                if label not in head.numbers
            ]
        return problems

    def problems_of_saved(self, facts: Mapping[str, Any], where: str) -> list[Problem]:
        """Find heads that the saved model does not have as they are here.

        Its outputs would be taken for those of other labels, or new ones put in their place.
        """
        if facts.get("task") != self.name:
            return []
        saved = {head.name: head for head in Heads.from_facts(facts["heads"]).all}
        here = {head.name: head for head in self.heads.all}
        remedy = (
            "Give the heads of the saved model, or a folder of the network without its head: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW)"
        )
        problems = []
        for name in {**saved, **here}:
            if name not in here or name not in saved:
                side = "the config" if name in saved else "the saved model"
                problems.append(Problem(f"{side} has no head {name}", where, remedy=remedy))
            elif saved[name].labels != here[name].labels:
                what = (
                    f"head {name} has {here[name].described} here, and {saved[name].described} in "
                    "the saved model"
                )
                if saved[name].described == here[name].described:
                    what = f"head {name} has other labels here than in the saved model"
                problems.append(Problem(what, where, remedy=remedy))
        if not problems and list(saved) != list(here):
            what = "the heads are in another order in the saved model"
            problems.append(Problem(what, where, ", ".join(saved), remedy))
        return problems

    def problems_of_encoded(self, source: EncodedSource) -> list[Problem]:
        """Find labels that the head of a source lacks, and samples without what it learns."""
        head = self.heads.of(source.language)
        kind = "score" if head.labels is None else "label"
        problems: dict[str, Problem] = {}
        for shard in source.shards:
            where = f"{source.url}, shard {shard.name} sample"
            lacking = shard.meta.get("without", {}).get(kind)
            if lacking is not None:
                what = f"the sample has no {kind}, which head {head.name} learns"
                remedy = 'Name labels, or set "labels" of the head to "score" where it is a number'
                problems.setdefault("", Problem(what, f"{where} {lacking}", remedy=remedy))
            if head.labels is not None:
                places = zip(
                    shard.meta.get("labels", []), shard.meta.get("label_places", []), strict=True
                )
                for label, key in places:
                    if label not in head.numbers:
                        problem = _unknown_label(head, label, f"{where} {key}")
                        problems.setdefault(label, problem)
        return list(problems.values())


def _foreign(logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """Which outputs belong to another head than that of a sample, [samples, outputs]."""
    position = torch.arange(logits.shape[1], device=logits.device) - batch["head_starts"][:, None]
    foreign: torch.Tensor = (position < 0) | (position >= batch["head_sizes"][:, None])
    return foreign


def _unknown_label(head: Head, label: str, where: str) -> Problem:
    return Problem(
        f"head {head.name} does not know this label",
        where,
        label,
        did_you_mean(label, head.labels or ()),
    )
