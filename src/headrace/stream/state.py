"""Where a stream is to go on: a few hundred bytes of JSON, the same on every rank."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from headrace.errors import ConfigError, Problem
from headrace.stream.batching import BatchPlan

STATE_VERSION = 1
"""Of the JSON below."""


@dataclass(frozen=True)
class StreamState:
    """The next step of a stage, and the settings under which the steps before it were taken."""

    version: int
    fingerprint: str
    """Of the batch plan."""
    stage: str
    next_step: int
    """Counted from 0 over the whole stage."""
    next_position: int
    """Samples of the stage that the steps before ``next_step`` consumed."""
    settings: Mapping[str, int | str]
    """Of the batch plan: they name what has changed when the fingerprint has."""

    @classmethod
    def at(cls, plan: BatchPlan, next_step: int) -> StreamState:
        """The state of a stage that goes on at ``next_step``."""
        return cls(
            version=STATE_VERSION,
            fingerprint=plan.fingerprint,
            stage=plan.plan.stage,
            next_step=next_step,
            next_position=plan.position(next_step),
            settings=plan.settings,
        )

    def to_json(self) -> str:
        """The state as JSON of less than 1 KB."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

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
        ]
        if problems:
            raise ConfigError(problems)
        return cls(**{name: content[name] for name in expected})

    def check(self, plan: BatchPlan, where: str) -> None:
        """Raise ``ConfigError`` that lists all that differs between this state and ``plan``.

        World size, micro-batch size and accumulation are no part of a plan and may differ.
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
        settings = plan.settings
        for name in sorted({*self.settings, *settings}):
            saved, now = self.settings.get(name), settings.get(name)
            if saved != now:
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
            or self.fingerprint != plan.fingerprint
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


_REMEDIES = {
    "sources": "Bring back the sources, their order and their shards as they were",
    "mixture": "Set the mixture's temperature or weights back",
    "order version": "Go on with the version of Headrace that saved it",
}
