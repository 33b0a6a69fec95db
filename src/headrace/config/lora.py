"""The section of a run config about adapters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from headrace.config.section import Section


def _modules(value: Any) -> Any:
    named = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    if value != "all_linear" and not named:
        raise ValueError('must be "all_linear", or a list of names such as ["query", "value"]')
    return value


class LoraConfig(Section):
    """Train the head and adapters of low rank, and no other weights (extra `lora`)."""

    rank: int = Field(8, ge=1)
    """Rank of an adapter: it has this times the inputs and outputs of its layer parameters."""
    alpha: float = Field(16.0, gt=0)
    """What an adapter says is multiplied by `alpha` / `rank`."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of what an adapter reads."""
    modules: Annotated[Literal["all_linear"] | list[str], BeforeValidator(_modules)] = "all_linear"
    """Linear layers that get an adapter: all but those of the head, or names, which may be the
    ends of longer ones: `query`, `attention.output.dense`."""
