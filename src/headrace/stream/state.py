"""Where a stream is to go on: a few hundred bytes of JSON, the same on every rank."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from os.path import commonprefix
from typing import Any

from headrace.counts import counted
from headrace.errors import ConfigError, Problem
from headrace.stream.batching import Batches
from headrace.stream.digest import digest
from headrace.stream.stage_mixture import changed_phases

STATE_VERSION = 2
"""Of the JSON below."""

MAX_BYTES = 1000
"""Of the JSON."""

MAX_QUARANTINED = 32
"""Shards that a run may go on without; more are not an accident but a damaged source."""


@dataclass(frozen=True)
class StreamState:
    """The next step of a stage, and the settings under which the steps before it were taken."""

    version: int
    fingerprint: str
    """Digest of the stage and ``settings``."""
    stage: str
    next_step: int
    """Counted from 0 over the whole stage."""
    next_position: int
    """Samples of the stage that the steps before ``next_step`` consumed."""
    settings: Mapping[str, int | str]
    """Of the batches before ``next_step``: they name what has changed when the fingerprint has."""
    quarantined: tuple[str, ...] = ()
    """Shards that the run goes on without, as ``SOURCE NAME/SHARD NAME``, in sorted order."""

    @classmethod
    def at(cls, plan: Batches, next_step: int, quarantined: Iterable[str] = ()) -> StreamState:
        """The state of a stage that goes on at ``next_step``.

        Raises ``ConfigError`` for more than ``MAX_QUARANTINED`` shards in ``quarantined``.
        """
        shards = tuple(sorted(set(quarantined)))
        if len(shards) > MAX_QUARANTINED:
            raise ConfigError(_too_many(plan.plan.stage, shards))
        settings = plan.settings_until(next_step)
        return cls(
            version=STATE_VERSION,
            fingerprint=digest([plan.plan.stage, dict(settings)]),
            stage=plan.plan.stage,
            next_step=next_step,
            next_position=plan.position(next_step),
            settings=settings,
            quarantined=shards,
        )

    def to_json(self) -> str:
        """The state as JSON of less than 1 KB.

        Raises ``ConfigError`` where the names of the quarantined shards do not fit into it.
        """
        content = {**asdict(self), "quarantined": _packed(self.quarantined)}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) > MAX_BYTES:
            raise ConfigError(_too_many(self.stage, self.quarantined))
        return text

    @classmethod
    def from_json(cls, text: str, where: str) -> StreamState:
        """Read what ``to_json`` wrote; ``ConfigError`` naming ``where`` if it is anything else."""
        remedy = "Start from another checkpoint"
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ConfigError(
                Problem("the stream state is not JSON", where, str(error), remedy)
            ) from None
        version = content.get("version") if isinstance(content, dict) else None
        if version != STATE_VERSION:
            raise ConfigError(
                Problem(
                    f"a stream state of version {STATE_VERSION} is needed",
                    where,
                    repr(version),
                    "Start from a checkpoint of this version of Headrace",
                )
            )
        expected = {
            "version": int,
            "fingerprint": str,
            "stage": str,
            "next_step": int,
            "next_position": int,
            "settings": dict,
            "quarantined": list,
        }
        problems = [
            Problem(
                "the stream state is damaged",
                f"{where}: {name}",
                repr(content.get(name)),
                remedy,
            )
            for name, kind in expected.items()
            if type(content.get(name)) is not kind
            or (name == "quarantined" and _unpacked(content[name]) is None)
        ]
        if problems:
            raise ConfigError(problems)
        fields = {name: content[name] for name in expected}
        return cls(**{**fields, "quarantined": _unpacked(content["quarantined"])})

    def check(self, plan: Batches, where: str) -> None:
        """Raise ``ConfigError`` that lists all that differs between this state and ``plan``.

        World size, micro-batch size and accumulation are no part of a plan and may differ; so
        may phases that have not begun, and epoch limits that have not been reached.
        """
        problems = []
        if self.stage != plan.plan.stage:
            problems.append(
                Problem(
                    f"the state is of another stage than {plan.plan.stage}",
                    where,
                    self.stage,
                    f"Go on with stage {self.stage}, or start from a checkpoint of this one",
                )
            )
        try:
            settings = plan.settings_until(max(self.next_step, 0))
        except IndexError:
            # Only a stage that ends has no such step.
            steps = plan.total_steps or 0
            settings = plan.settings_until(steps)
            problems.append(
                Problem(
                    f"the stage ends after {counted(steps, 'step')} now, fewer than were done",
                    where,
                    f"step {self.next_step}",
                    "Set its phases and epoch limits back, or start it anew in another run folder",
                )
            )
        for name in sorted({*self.settings, *settings}):
            saved, now = self.settings.get(name), settings.get(name)
            if saved != now and name == "mixture phases":
                problems += _phase_problems(plan, self.settings, settings, where)
            elif saved != now:
                problems.append(
                    Problem(
                        f"{name} changed since the checkpoint was saved",
                        where,
                        f"{saved} then, {now} now",
                        _REMEDIES.get(name, f"Set {name} back to {saved}")
                        + ", or start the stage anew in another run folder",
                    )
                )
        if not problems and (
            self.next_step < 0
            or self.fingerprint != digest([self.stage, dict(settings)])
            or self.next_position != plan.position(self.next_step)
        ):
            problems.append(
                Problem(
                    "the stream state contradicts itself",
                    where,
                    f"step {self.next_step} at position {self.next_position}",
                    "Start from another checkpoint",
                )
            )
        if problems:
            raise ConfigError(problems)


def _phase_problems(
    plan: Batches, saved: Mapping[str, Any], now: Mapping[str, Any], where: str
) -> list[Problem]:
    """Name the first phase that changed, unless it is the mixture itself, which has a name."""
    changed = changed_phases(saved, now)
    if saved.get("mixture") != now["mixture"]:
        changed = [number for number in changed if number]
        if not changed:
            return []
    phases = plan.plan.stage_mixture.phases
    what, which = "a phase of the mixture", "one of those that have begun"
    if changed:
        number = changed[0]
        what = f"phase {number + 1} of the mixture"
        which = (
            f"it begins at position {phases[number].start:,} now"
            if number < len(phases)
            else "it began before the checkpoint, and there is none now"
        )
    return [
        Problem(
            f"{what} changed since the checkpoint was saved",
            where,
            which,
            "Set its start, its shares and the epoch limits back (phases that have not begun may "
            "be edited), or start the stage anew in another run folder",
        )
    ]


def _too_many(stage: str, shards: tuple[str, ...]) -> Problem:
    return Problem(
        "too many shards are quarantined to go on without them",
        f"stage {stage}",
        f"{len(shards)}: {', '.join(shards[:3])}, ...",
        "Check the sources with: headrace verify URL",
    )


def _packed(names: tuple[str, ...]) -> list[int | str]:
    """Names without what each shares with the one before it: how much, the rest, and so on."""
    packed: list[int | str] = []
    before = ""
    for name in names:
        shared = len(commonprefix([before, name]))  # noqa: RUF071 - characters are meant
        packed += [shared, name[shared:]]
        before = name
    return packed


def _unpacked(packed: list[Any]) -> tuple[str, ...] | None:
    """The names again; None for what ``_packed`` did not make."""
    names = [""]
    for shared, rest in zip(packed[::2], packed[1::2], strict=False):
        if type(shared) is not int or type(rest) is not str:
            return None
        names.append(names[-1][:shared] + rest)
    return None if len(packed) % 2 else tuple(names[1:])


_REMEDIES = {
    "sources": "Bring back sources, their order, their shards and the selection as they were",
    "mixture": "Set the mixture's temperature or weights back",
    "order version": "Go on with the version of Headrace that saved it",
}
