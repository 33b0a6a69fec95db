"""From the learning rates of a search to a distribution that a run config names."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.config.learning_rates import SelectConfig
from headrace.errors import ConfigError, Problem
from headrace.search.study import Space
from headrace.search.study_file import StudyFile
from headrace.training.distributions import DistributedRate, Distribution, paper_distribution
from headrace.training.layers import Layout

_PAPER_LAYERS = 12


def space_of(file: StudyFile, layout: Layout, model_type: str) -> Space:
    """What has a learning rate of its own in a network.

    Args:
        file: gives the groups.
        layout: of the network.
        model_type: its kind.

    Raises:
        ConfigError: if the paper's groups are asked for a network of another depth.
    """
    if file.groups is not None:
        groups = {group.name: group.select for group in file.groups}
    elif file.split is not None:
        if list(layout.stacks.values()) != [_PAPER_LAYERS]:
            counts = ", ".join(f"{name} {count}" for name, count in layout.stacks.items())
            what = f"the paper's groups are for one stack of {_PAPER_LAYERS} layers"
            remedy = "Leave out split for one group a layer, or give groups"
            raise ConfigError(Problem(what, "split", f"the network has {counts}", remedy))
        groups = {
            group.name: group.select for group in paper_distribution([1.0] * 10, file.split).groups
        }
    else:
        alone = len(layout.stacks) == 1
        groups = {"embeddings": SelectConfig(part="embeddings")}
        groups |= {
            f"layer-{number}" if alone else f"{stack}-{number}": SelectConfig(
                stack=None if alone else stack, layers=number
            )
            for stack, count in layout.stacks.items()
            for number in range(count)
        }
        groups["rest"] = SelectConfig(part="rest")
    return Space(groups, model_type, layout.stacks)


def distribution_of(
    space: Space,
    rates: Mapping[str, float],
    *,
    study: str,
    seeds: list[int],
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Distribution:
    """The distribution that gives each group its rate.

    Args:
        space: has the groups.
        rates: learning rate by group.
        study: where they come from.
        seeds: of the runs.
        intervals: bounds of each rate, by group.
    """
    return Distribution(
        model_type=space.model_type,
        layers=dict(space.layers),
        groups=[
            DistributedRate(
                name=name,
                select=select,
                lr=rates[name],
                interval=None if intervals is None else list(intervals[name]),
            )
            for name, select in space.groups.items()
        ],
        study=study,
        seeds=seeds,
    )
