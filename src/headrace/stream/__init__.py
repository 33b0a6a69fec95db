"""The deterministic stream: which samples make which batch, as pure functions of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.stream.dataset import ShardStream

__all__ = ["ShardStream"]


def __getattr__(name: str) -> Any:
    # The plan of a stream needs no torch, and torch takes seconds to import.
    if name in __all__:
        from headrace.stream import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
