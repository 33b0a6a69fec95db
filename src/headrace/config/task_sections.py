"""The sections of a run config about what is learned: one for each task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticKnownError

from headrace.config.plug_ins import plug_in_names, plug_in_task
from headrace.config.section import Name, Section

DISCOVER = "discover"
"""Labels that are to be found in the training shards."""
SCORE = "score"
"""In place of labels: the samples have a number."""
BUILT_IN = (
    "token_classification",
    "multiple_choice",
    "sequence_classification",
    "masked_lm",
    "causal_lm",
)
"""The tasks that need no other package."""


class TaskSection(Section):
    """What every task has."""

    never_packed: ClassVar[str | None] = None
    """Why samples of this task cannot share a row; None: they can."""
    cuts_texts: ClassVar[bool] = False
    """Whether a sample of the shards becomes several that are encoded, or none: how many there are
    is known after encoding."""
    type: str
    """The task."""
    max_length: int
    """Tokens of a sequence at most, special tokens included."""


class TokenClassificationConfig(TaskSection):
    """Tag every word of a sentence (named entities, IOB2)."""

    type: Literal["token_classification"]
    """The task."""
    labels: str = "discover"
    """A built-in label set (`multiconer_v2`, `multiconer_v1`, `conll2003`, `uner`), the path of a
    label file, or `discover`: the types found in the training shards."""
    max_length: int = Field(128, ge=4, le=32767)
    """Pieces a sentence may have, special tokens included; what is cut off is counted."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target probability that is spread over all tags in training; validation
    losses are without it."""


class MultipleChoiceConfig(TaskSection):
    """Choose the text that goes with a context (how a story ends, what a cause leads to)."""

    never_packed: ClassVar[str | None] = "the choices of a sample are rows of one table"

    type: Literal["multiple_choice"]
    """The task."""
    max_length: int = Field(128, ge=8, le=32767)
    """Pieces that a context with one of its choices may have, special tokens included; beyond it
    the context is cut from the left, and what is cut off is counted."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target probability that is spread over a sample's choices in training;
    validation losses are without it."""


def _labels(value: Any) -> Any:
    if value is None or value in (DISCOVER, SCORE):
        return value
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) != len(value):
            twice = sorted({name for name in value if value.count(name) > 1})
            raise ValueError(f"a label stands twice: {', '.join(twice)}")
        if len(value) >= 2 and all(name.strip() for name in value):
            return value
    raise ValueError('must be "discover", "score", or a list of two or more names')


Labels = Annotated[str | list[str] | None, BeforeValidator(_labels)]


class HeadConfig(Section):
    """A part of the classifier: the labels of some sources, or their score."""

    sources: list[str] = Field(min_length=1)
    """Sources (languages of `data`) that it answers for; each source has one head."""
    labels: Labels = None
    """As `labels` of the task, whose value is the default."""


class SequenceClassificationConfig(TaskSection):
    """Label a text or a pair of texts, or give it a score."""

    never_packed: ClassVar[str | None] = "a network labels a whole row, and a row has one label"

    type: Literal["sequence_classification"]
    """The task."""
    labels: Labels = DISCOVER
    """The labels in the order of the network's outputs; `discover`: those of the training shards,
    sorted; `score`: a number in place of labels (regression, by squared error)."""
    heads: dict[Name, HeadConfig] | None = None
    """Sources that have labels of their own: a head each, by name, side by side in one classifier.
    The loss of a sample is that of the head of its source alone. Default: one for all sources."""
    max_length: int = Field(128, ge=4, le=32767)
    """Pieces that a text, or a pair, may have, special tokens included; beyond it the longer text
    is cut on the right, and what is cut off is counted."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target probability that is spread over the labels of a sample's head in
    training; validation losses are without it, and scores have none."""


class MaskedLMConfig(TaskSection):
    """Restore masked tokens of plain text (BERT's pre-training)."""

    cuts_texts: ClassVar[bool] = True

    type: Literal["masked_lm"]
    """The task."""
    max_length: int = Field(128, ge=8, le=32767)
    """Tokens of a sequence at most, special tokens included; longer texts become several
    sequences, and a sequence is what batches and epochs count as a sample."""
    masked_share: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens, or of the words, that is masked; of these 80 % become the mask token,
    10 % another token, and 10 % stay as they are."""
    whole_word: bool = False
    """Mask all tokens of a word together."""


class CausalLMConfig(TaskSection):
    """Predict each token of plain text from those before it (GPT's pre-training)."""

    cuts_texts: ClassVar[bool] = True

    type: Literal["causal_lm"]
    """The task."""
    max_length: int = Field(128, ge=8, le=32767)
    """Tokens of a sequence at most, special tokens included; longer texts become several
    sequences, and a sequence is what batches and epochs count as a sample."""


class _AnyTask:
    """Validates the section of a task: one of those that are built in, or that of a plug-in."""

    def __init__(self) -> None:
        self.sections: list[type[TaskSection]] = []
        """Sections of the plug-ins that have been asked for."""

    def __call__(self, value: Any, built_in: ValidatorFunctionWrapHandler) -> Any:
        """Hand a section to ``built_in``, if its type is not that of a plug-in."""
        if isinstance(value, TaskSection):
            return value
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or kind in BUILT_IN:
            return built_in(value)
        names = plug_in_names()
        if kind not in names:
            tags = ", ".join(map(repr, sorted([*BUILT_IN, *names])))
            facts = {"discriminator": "'type'", "tag": kind, "expected_tags": tags}
            raise PydanticKnownError("union_tag_invalid", facts)
        section = plug_in_task(kind).section
        if section not in self.sections:
            self.sections.append(section)
        # of two sections, so that problems have the form of those of built-in tasks
        either: Any = Annotated[
            TokenClassificationConfig | section,
            Field(discriminator="type"),
        ]
        return TypeAdapter(either).validate_json(json.dumps(value))


TaskConfig = Annotated[
    TokenClassificationConfig
    | MultipleChoiceConfig
    | SequenceClassificationConfig
    | MaskedLMConfig
    | CausalLMConfig,
    Field(discriminator="type"),
    WrapValidator(_AnyTask()),
    SerializeAsAny(),
]
"""One section for each task; its `type` says which. Other packages may bring further ones."""
