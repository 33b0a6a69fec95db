"""What listens to the steps of a branch, such as the loggers.

A callback sees records (plain dicts, the lines of ``metrics.jsonl``); the loop knows nothing of
where they go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from headrace.errors import HeadraceError

Record = dict[str, Any]

logger = logging.getLogger(__name__)


class Callback(Protocol):
    """Listens to one branch of a stage, on the main rank."""

    def on_start(self, record: Record, first_step: int) -> None:
        """Take the facts of the branch; training goes on at ``first_step``."""

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Take a finished step; ``logged`` says whether it is one that is written down."""

    def on_validation(self, record: Record) -> None:
        """Take the scores of a validation."""

    def close(self) -> None:
        """End, also after an error."""


class Callbacks:
    """All callbacks of a branch as one; a context manager that closes them.

    Once training is on its way a callback that fails, say because the disk is full, costs its
    record and one warning, and the next record is tried again: a log is not worth a run.  What
    Headrace raises on purpose passes.
    """

    def __init__(self, members: Sequence[Callback]) -> None:
        self.members = members
        self._failing: set[int] = set()

    def __enter__(self) -> Callbacks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            self._try(member, member.close)

    def on_start(self, record: Record, first_step: int) -> None:
        """Pass on to every callback."""
        for member in self.members:
            member.on_start(record, first_step)

    def restart(self, record: Record, first_step: int) -> None:
        """Close every callback and start it anew: training has gone back to ``first_step``."""
        for member in self.members:
            self._try(member, member.close)
            self._try(member, partial(member.on_start, record, first_step))

    def on_step(self, record: Record, *, logged: bool) -> None:
        """Pass on to every callback."""
        for member in self.members:
            self._try(member, partial(member.on_step, record, logged=logged))

    def on_validation(self, record: Record) -> None:
        """Pass on to every callback."""
        for member in self.members:
            self._try(member, partial(member.on_validation, record))

    def _try(self, member: Callback, call: Callable[[], None]) -> None:
        try:
            call()
        except HeadraceError:
            raise
        except Exception as error:
            if id(member) not in self._failing:
                logger.warning(
                    "%s failed, training goes on: %s: %s",
                    type(member).__name__,
                    type(error).__name__,
                    error,
                )
            self._failing.add(id(member))
        else:
            self._failing.discard(id(member))
