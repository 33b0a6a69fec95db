"""What commands share: problems under the names of options, and counts in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from headrace.errors import UserError


@contextmanager
def named_as_options(settings: Iterable[str]) -> Iterator[None]:
    """Give the problems of settings the names that these have on the command line.

    ``max_length`` becomes ``--max-length``.
    """
    names = {name: "--" + name.replace("_", "-") for name in settings}
    try:
        yield
    except UserError as error:
        if not any(problem.where in names for problem in error.problems):
            raise
        raise type(error)(
            [
                replace(problem, where=names.get(problem.where, problem.where))
                for problem in error.problems
            ]
        ) from error


def counted(number: int, noun: str) -> str:
    """``1 shard``, ``2 shards``, ``10,000 sentences``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
