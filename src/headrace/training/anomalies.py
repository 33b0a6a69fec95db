"""Which steps are not applied: loss or gradient not finite, or far above those of the steps before.

The verdict comes from sums over all ranks, before the optimizer acts, so it is the same on every
rank.  What it depends on besides, the steps of the window, belongs in the checkpoint: a run that is
resumed judges as one that was never stopped.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from headrace.config.anomalies import AnomaliesConfig, AnomalyAction

_NORMAL = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""
_LEAST_SPREAD = 0.01
"""Of the median: losses of a model that has learned all there is hardly differ."""


@dataclass(frozen=True)
class Verdict:
    """What is done with a step."""

    action: Literal["apply"] | AnomalyAction = "apply"
    reason: str | None = None
    """For people; None where nothing is wrong."""
    known: bool = False
    """Whether the step was left out on purpose, after going back, and is on record."""

    @property
    def applied(self) -> bool:
        """Whether the optimizer may act."""
        return self.action == "apply"


class Anomalies:
    """Judges the steps of a branch, in their order."""

    def __init__(self, settings: AnomaliesConfig | None = None, *, scaled: bool = False) -> None:
        """``scaled``: whether a loss scaler (fp16) skips steps that are not finite."""
        self.settings = settings or AnomaliesConfig()
        self.scaled = scaled
        window = self.settings.spike.window if self.settings.spike else 0
        self._losses: deque[float] = deque(maxlen=window)
        self._norms: deque[float] = deque(maxlen=window)
        self._in_a_row = 0
        self.left_out: frozenset[int] = frozenset()
        """Steps, counted from 1, that are left out since the branch went back before them."""
        self.rollbacks = 0
        """How often the branch went back."""

    @property
    def needs_gradient_norm(self) -> bool:
        """Whether norms have to be known before the optimizer acts."""
        spike = self.settings.spike
        watched = self.settings.not_finite != "stop" and not self.scaled
        return watched or (spike is not None and spike.gradient_ratio is not None)

    def judge(self, step: int, loss: float, gradient_norm: float | None) -> Verdict:
        """Say what is done with a step; to be called once for each, before it is applied.

        Args:
            step: its number, counted from 1.
            loss: mean over the labels of the whole batch.
            gradient_norm: of the averaged gradient, before clipping; None: not known.
        """
        if step in self.left_out:
            return Verdict("skip", "left out after going back", known=True)
        found = self._find(loss, gradient_norm)
        if found is None:
            self._in_a_row = 0
            if math.isfinite(loss):
                self._losses.append(loss)
            if gradient_norm is not None and math.isfinite(gradient_norm):
                self._norms.append(gradient_norm)
            return Verdict()
        action, reason = found
        self._in_a_row += 1
        if action == "skip" and self._in_a_row > self.settings.skips_in_a_row:
            limit = self.settings.skips_in_a_row
            return Verdict("stop", f"{reason}, after {limit} steps that were skipped in a row")
        if action == "rollback" and self.rollbacks >= self.settings.rollbacks:
            return Verdict("stop", f"{reason}, after going back {self.rollbacks} times")
        return Verdict(action, reason)

    def _find(self, loss: float, norm: float | None) -> tuple[AnomalyAction, str] | None:
        finite = math.isfinite(loss) and (norm is None or math.isfinite(norm))
        if not finite:
            if self.scaled:
                return None
            if not math.isfinite(loss):
                return self.settings.not_finite, f"the loss is {loss}"
            return self.settings.not_finite, f"the gradient norm is {norm}"
        if (spike := self.settings.spike) is None:
            return None
        if spike.deviations is not None and len(self._losses) == spike.window:
            middle = median(self._losses)
            spread = _NORMAL * median(abs(value - middle) for value in self._losses)
            limit = middle + spike.deviations * max(spread, _LEAST_SPREAD * abs(middle))
            if loss > limit:
                return spike.action, (
                    f"the loss is {loss:.6g}, above {limit:.6g}: the median of the last "
                    f"{spike.window} steps is {middle:.6g}, their spread {spread:.3g}"
                )
        ratio = spike.gradient_ratio
        if ratio is not None and norm is not None and len(self._norms) == spike.window:
            middle = median(self._norms)
            if norm > ratio * middle:
                return spike.action, (
                    f"the gradient norm is {norm:.6g}, more than {ratio:g} times {middle:.6g}, the "
                    f"median of the last {spike.window} steps"
                )
        return None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to keep, JSON-able."""
        return {
            "losses": list(self._losses),
            "gradient_norms": list(self._norms),
            "in_a_row": self._in_a_row,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`; a window that is smaller now keeps the last steps."""
        self._losses = deque(state["losses"], self._losses.maxlen)
        self._norms = deque(state["gradient_norms"], self._norms.maxlen)
        self._in_a_row = state["in_a_row"]
