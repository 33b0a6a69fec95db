"""The section ``penalty`` of a stage: what keeps weights near those that the stage starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headrace.config.section import Section

Anchor = Literal["start", "pretrained"]


class L2SpConfig(Section):
    """Hold all weights alike near those that the stage starts from (L2-SP)."""

    type: Literal["l2_sp"]
    """The penalty."""
    weight: float = Field(gt=0)
    """The loss gets `weight` / 2 times the squared distance of the weights from the anchor; the
    head, and weights that are frozen, have no part in it."""
    anchor: Anchor = "start"
    """Where the weights are held: at the model that the stage starts from, or at `model.pretrained`
    also in later stages."""


class EwcConfig(Section):
    """Hold each weight by what it meant for earlier data (elastic weight consolidation)."""

    type: Literal["ewc"]
    """The penalty."""
    weight: float = Field(gt=0)
    """As for `l2_sp`, but each weight's squared distance is multiplied by its Fisher
    information."""
    of: Literal["stages", "masked_lm"] = "stages"
    """Whose Fisher information. `stages`: that of the stages before this one, along `start_from`,
    each measured on its own data. `masked_lm`: that of masked-language-model pre-training, measured
    on `text` with `model.pretrained`."""
    samples: int = Field(512, ge=1)
    """Samples (with `masked_lm` texts) that it is the mean over."""
    anchor: Anchor | None = None
    """As for `l2_sp`. Default: `pretrained` with `masked_lm`, otherwise `start`."""
    decay: float | None = Field(None, ge=0, le=1)
    """With `stages`, when there are several before this one: a stage counts this much less with
    each stage that comes after it. Default: 1, all alike."""
    text: list[str] | None = Field(None, min_length=1)
    """With `masked_lm`, required: folders of shards with text, such as those of pre-training."""
    masked_share: float | None = Field(None, gt=0, lt=1)
    """With `masked_lm`: share of the tokens of a text that are masked. Default: 0.15."""
    fit_head: int | None = Field(None, ge=1)
    """With `masked_lm`, where `model.pretrained` has no masked-language-model head: train a new one
    on `text` for this many steps of 32 texts, all other weights as they are. Default: refuse such a
    model."""
    cache_dir: str | None = None
    """With `masked_lm`: local folder that all ranks see, for finished Fisher information, shared by
    runs. Default: `.headrace/fisher`."""


PenaltyConfig = Annotated[L2SpConfig | EwcConfig, Field(discriminator="type")]
"""One section for each penalty; its `type` says which."""
