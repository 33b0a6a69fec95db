"""What a selection may hold: a number of rows, a token budget, quotas, rows that must be in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.counts import counted
from headrace.errors import Problem


@dataclass(frozen=True)
class Limits:
    """What the user asks for.  Exactly one of ``rows``, ``fraction`` and ``budget`` is given.

    Quotas count rows; under a budget they count costs, and there is no ``minimum``.
    """

    rows: int | None = None
    """Number of rows to choose."""
    fraction: float | None = None
    """Share of all rows to choose: above 0, at most 1."""
    budget: int | None = None
    """Sum of the costs (tokens) of the chosen rows at most."""
    minimum: Mapping[str, int] = field(default_factory=dict)
    """Rows of a group at least, by the name of the group."""
    maximum: Mapping[str, int] = field(default_factory=dict)
    """Rows (under a budget: costs) of a group at most, by the name of the group."""
    proportional: bool = False
    """Whether each group gets its share of all rows, by largest remainders.

    Under a budget, no group gets more than its share of all costs.
    """


@dataclass(frozen=True)
class Facts:
    """What there is to choose from, over all ranks."""

    group_names: Sequence[str]
    group_sizes: NDArray[np.int64]
    """``[groups]``: rows of each group."""
    required: NDArray[np.int64]
    """``[groups]``: rows of each group that must be in."""
    group_costs: NDArray[np.int64] | None = None
    """``[groups]``: sum of the costs of each group; None without costs."""
    required_costs: NDArray[np.int64] | None = None
    """``[groups]``: costs of the rows of each group that must be in; None without costs."""
    cheapest: int | None = None
    """The smallest cost of a row; None without costs."""

    @property
    def total(self) -> int:
        """Rows."""
        return int(self.group_sizes.sum())

    @property
    def required_cost(self) -> int:
        """Costs of all rows that must be in."""
        return 0 if self.required_costs is None else int(self.required_costs.sum())


@dataclass(frozen=True)
class Room:
    """What may be chosen beside the rows that must be in."""

    rows: int | None
    """Rows to choose; None under a budget."""
    budget: int | None
    """Costs to spend; None for a number of rows."""
    minimum: NDArray[np.int64]
    """``[groups]``: rows of each group at least; 0 under a budget."""
    maximum: NDArray[np.int64]
    """``[groups]``: rows of each group at most; under a budget what they may cost."""


def room(limits: Limits, facts: Facts) -> tuple[Room | None, list[Problem]]:
    """The room that limits leave, or None and all that is wrong with them."""
    problems = _size_problems(limits, facts)
    if limits.budget is not None:
        return _room_of_budget(limits.budget, limits, facts, problems)
    count = limits.rows
    if limits.fraction is not None and not problems:
        count = max(1, round(limits.fraction * facts.total))
    if count is None or problems:
        return None, problems + group_problems(limits, facts.group_names)
    required = int(facts.required.sum())
    if required > count:
        problems.append(
            Problem(
                f"{counted(required - count, 'more row')} must be in than may be chosen",
                "rows that must be in",
                f"{counted(required, 'row')}, {count:,} to choose",
                "Choose more rows, or require fewer",
            )
        )
    minimum, maximum = _quotas(limits, facts, count)
    problems += _quota_problems(limits, facts, count, minimum, maximum)
    left_over = Room(
        count - int(facts.required.sum()),
        None,
        np.maximum(minimum - facts.required, 0),
        np.minimum(maximum, facts.group_sizes) - facts.required,
    )
    return (None if problems else left_over), problems


def _room_of_budget(
    budget: int, limits: Limits, facts: Facts, problems: list[Problem]
) -> tuple[Room | None, list[Problem]]:
    problems = problems + _budget_problems(limits, facts)
    costs, required = facts.group_costs, facts.required_costs
    if problems or costs is None or required is None:
        return None, problems
    if limits.proportional:
        highest = shares(costs, min(budget, int(costs.sum())))
    else:
        limit = [limits.maximum.get(name, budget) for name in facts.group_names]
        highest = np.minimum(np.array(limit, np.int64), costs)
    maximum = highest - required
    problems = [
        Problem(
            f"the rows of the group that must be in cost {needed:,}, {-left:,} more than its quota",
            f"maximum.{name}",
            f"{high:,}",
            "Raise it, or require fewer rows",
        )
        for name, left, high, needed in zip(
            facts.group_names, maximum, highest, required, strict=True
        )
        if left < 0
    ]
    most, cheapest = int(highest.max()), facts.cheapest or 0
    if most < cheapest:
        problems.append(
            Problem(
                f"no quota has room for a row: the cheapest costs {cheapest:,}, "
                f"{cheapest - most:,} more than the largest quota",
                "maximum",
                f"{most:,}",
                "Raise the quotas, or the budget",
            )
        )
    left_over = Room(None, budget - facts.required_cost, np.zeros_like(maximum), maximum)
    return (None if problems else left_over), problems


def _size_problems(limits: Limits, facts: Facts) -> list[Problem]:
    given = {
        name: value
        for name, value in (
            ("rows", limits.rows), ("fraction", limits.fraction), ("budget", limits.budget),
        )
        if value is not None
    }  # fmt: skip
    if len(given) != 1:
        names = ", ".join(given) or "nothing"
        return [
            Problem(
                "one of rows, fraction and budget says how much to choose",
                "limits",
                names,
                "Give exactly one of them",
            )
        ]
    if limits.rows is not None and not 1 <= limits.rows <= facts.total:
        return [Problem("out of range", "rows", f"{limits.rows:,}", f"Give 1 to {facts.total:,}")]
    if limits.fraction is not None and not 0 < limits.fraction <= 1:
        return [Problem("out of range", "fraction", str(limits.fraction), "Above 0, at most 1")]
    return []


def _budget_problems(limits: Limits, facts: Facts) -> list[Problem]:
    problems = group_problems(limits, facts.group_names)
    problems += _proportional_problems(limits)
    problems += [
        Problem(
            "under a budget there is no least cost of a group: rows of its very cost need not be",
            f"minimum.{name}",
            f"{value:,}",
            "Give maximum or proportional, or rows or fraction in place of budget",
        )
        for name, value in limits.minimum.items()
        if name in facts.group_names and value >= 0
    ]
    budget = limits.budget or 0
    if facts.cheapest is None:
        problems.append(
            Problem("a budget needs the cost of each row", "budget", remedy="Give costs")
        )
    elif budget < facts.cheapest:
        problems.append(
            Problem(
                f"the cheapest row costs {facts.cheapest:,}, {facts.cheapest - budget:,} more",
                "budget",
                f"{budget:,}",
                "Raise the budget",
            )
        )
    elif budget < facts.required_cost:
        problems.append(
            Problem(
                f"the rows that must be in cost {facts.required_cost:,}, "
                f"{facts.required_cost - budget:,} more",
                "budget",
                f"{budget:,}",
                "Raise the budget, or require fewer rows",
            )
        )
    return problems


def group_problems(limits: Limits, group_names: Sequence[str]) -> list[Problem]:
    """Quotas of groups that there are not, or that are below 0."""
    known = frozenset(group_names)
    return [
        Problem("there is no such group", f"{kind}.{name}", remedy=f"Groups: {_some(group_names)}")
        for kind, quotas in (("minimum", limits.minimum), ("maximum", limits.maximum))
        for name in quotas
        if name not in known
    ] + [
        Problem("out of range", f"{kind}.{name}", str(value), "Give 0 or more")
        for kind, quotas in (("minimum", limits.minimum), ("maximum", limits.maximum))
        for name, value in quotas.items()
        if value < 0
    ]


def _proportional_problems(limits: Limits) -> list[Problem]:
    if not (limits.proportional and (limits.minimum or limits.maximum)):
        return []
    return [
        Problem(
            "proportional quotas leave no room for others",
            "limits",
            remedy="Leave out minimum and maximum, or proportional",
        )
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _quotas(
    limits: Limits, facts: Facts, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    minimum = np.array([limits.minimum.get(name, 0) for name in facts.group_names], np.int64)
    maximum = np.array(
        [
            limits.maximum.get(name, size)
            for name, size in zip(facts.group_names, facts.group_sizes, strict=True)
        ],
        np.int64,
    )
    if limits.proportional:
        minimum = maximum = shares(facts.group_sizes, count)
    return minimum, maximum


def shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` rows or tokens shared out in proportion to sizes.

    By largest remainders, of equal ones the first.
    No share is larger than its size where ``count`` is at most their sum.
    """
    total = int(sizes.sum())
    # Python's integers: products of two sums of tokens need not fit 64 bits
    parts = [divmod(int(size) * count, total) for size in sizes]
    whole = np.array([part for part, _ in parts], np.int64)
    first = sorted(range(len(parts)), key=lambda place: -parts[place][1])
    whole[first[: count - int(whole.sum())]] += 1
    return whole


def sum_by_group(
    groups: NDArray[np.int32], costs: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """``[count]``: the costs of the rows of each group."""
    total = np.zeros(count, np.int64)
    np.add.at(total, groups, costs)  # exact, unlike a weighted bincount
    return total


def _quota_problems(
    limits: Limits,
    facts: Facts,
    count: int,
    minimum: NDArray[np.int64],
    maximum: NDArray[np.int64],
) -> list[Problem]:
    problems = group_problems(limits, facts.group_names)
    problems += _proportional_problems(limits)
    if problems:
        return problems
    for name, low, high, size, required in zip(
        facts.group_names, minimum, maximum, facts.group_sizes, facts.required, strict=True
    ):
        if low > size:
            problems.append(
                _too_few(
                    f"minimum.{name}", f"the group has {counted(int(size), 'row')}", low, low - size
                )
            )
        elif low > high:
            what = f"more than its maximum of {high:,}"
            problems.append(_too_few(f"minimum.{name}", what, low, low - high))
        if required > high:
            problems.append(
                Problem(
                    f"{counted(int(required - high), 'more row')} of the group must be in than its "
                    "quota allows",
                    f"maximum.{name}",
                    f"{high:,}",
                    "Raise it, or require fewer rows",
                )
            )
    needed = int(np.maximum(minimum, facts.required).sum()) if minimum.any() else 0
    possible = int(np.minimum(maximum, facts.group_sizes).sum())
    if needed > count:
        problems.append(
            Problem(
                f"the minimums need {counted(needed, 'row')}, {needed - count:,} more than are "
                "chosen",
                "minimum",
                f"{counted(count, 'row')} to choose",
                "Choose more rows, or lower the minimums",
            )
        )
    if possible < count:
        problems.append(
            Problem(
                f"the maximums allow {counted(possible, 'row')}, {count - possible:,} fewer than "
                "are chosen",
                "maximum",
                f"{counted(count, 'row')} to choose",
                "Choose fewer rows, or raise the maximums",
            )
        )
    return problems


def _too_few(where: str, what: str, value: int, missing: int) -> Problem:
    return Problem(f"{what}, {missing:,} too few", where, f"{value:,}", f"Lower it by {missing:,}")
