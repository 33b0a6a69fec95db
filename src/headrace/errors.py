"""The exception family of Headrace, and the exit codes that go with it.

A mistake of the user (config, corpus, shards, paths) is a :class:`UserError`: it carries one or
more :class:`Problem` records, is printed without a traceback, and ends the process with exit
code 2.  Everything else that Headrace raises on purpose is a :class:`HeadraceError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

EXIT_DONE = 0
"""The command finished."""
EXIT_FAULT = 1
"""Something failed that the user did not cause; a traceback is printed."""
EXIT_USER_ERROR = 2
"""The input is wrong; running the command again without a change is of no use."""
EXIT_REQUEUE = 75
"""The run was asked to stop, saved a checkpoint, and wants to be started again (EX_TEMPFAIL)."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the user's input."""

    what: str
    """What is wrong, as a short sentence without a final full stop."""
    where: str
    """JSON path, ``file:line``, shard and offset, or path."""
    value: str | None = None
    """The offending value as text; never private text."""
    remedy: str | None = None
    """What to do about it, as an imperative."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        if self.value is not None:
            text += f" (value: {self.value})"
        if self.remedy is not None:
            text += f". {self.remedy}"
        return text


class HeadraceError(Exception):
    """Base of every exception that Headrace raises on purpose."""

    exit_code = EXIT_FAULT


class UserError(HeadraceError):
    """The input is wrong in one or more places, all of which are listed at once."""

    exit_code = EXIT_USER_ERROR

    def __init__(self, problems: Problem | Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            # A DataLoader raises the error of a worker again, made of the text of its traceback.
            problems = Problem(problems, "worker process")
        self.problems: tuple[Problem, ...] = (
            (problems,) if isinstance(problems, Problem) else tuple(problems)
        )
        self.joint = False
        """Whether every rank of the run raises it: the main rank alone prints it then."""
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def renamed(self, rename: Callable[[Problem], Problem]) -> UserError:
        """The same error, as joint as it is, with problems that have other names."""
        other = type(self).__new__(type(self))
        UserError.__init__(other, [rename(problem) for problem in self.problems])
        other.joint = self.joint
        return other


class ConfigError(UserError):
    """The run config cannot be used as it is."""


class CorpusError(UserError):
    """A raw corpus file cannot be read as the format it is declared to be."""


class ShardError(UserError):
    """A shard, its index or its manifest is missing, damaged or not what it claims to be."""


class StorageError(ShardError):
    """What shards lie on does not answer, or cannot be used: they may well be intact."""


class EncodingError(UserError):
    """A tokenizer or an encoded sidecar cannot be made or used."""


class LabelError(UserError):
    """A tag is not in the label set, or a label set is not well formed."""


class SelectionError(UserError):
    """Rows cannot be chosen from these vectors, or not under these limits."""


class MissingExtraError(UserError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            Problem(
                what=f"{purpose} needs the package {package}",
                where="environment",
                remedy=f"Install it with: pip install 'headrace[{extra}]'",
            )
        )


class DivergedError(HeadraceError):
    """The loss of a training is no number: the same run would end in the same way again."""


class RankLostError(HeadraceError):
    """Another rank of the run is gone, or failed; what happened has been printed by then."""


class SaveError(HeadraceError):
    """A checkpoint that has to be saved cannot be, on every rank: the disk needs a look."""


class StopRequested(HeadraceError):  # noqa: N818 - a request, not an error
    """A signal asked the run to stop; a checkpoint has been saved."""

    exit_code = EXIT_REQUEUE
