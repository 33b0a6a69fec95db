"""Which parameters of a network a group of the config selects."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedModel

from headrace.config.learning_rates import SelectConfig
from headrace.config.messages import did_you_mean
from headrace.errors import ConfigError, Problem
from headrace.training.layers import Layout, UnknownLayersError, discover_layers, parameter_names


def layer_numbers(layers: int | str | list[int], count: int) -> list[int]:
    """Return the numbers of the layers that a text or a list names, from 0 at the input.

    Args:
        layers: ``3``, ``-1``, ``"0-1"`` (both are in), ``"-2:"`` (as Python slices) or a list.
        count: layers of the stack.

    Raises:
        ValueError: naming the first layer that is not in the stack, or for an empty range.
    """
    if isinstance(layers, str) and ":" in layers:
        first, last = layers.split(":")
        start, end = int(first or 0), int(last or count)
        outside = [bound for bound in (start, end) if not -count <= bound <= count]
        numbers = list(range(count))[start:end]
        if outside:
            raise ValueError(f"there is no layer {outside[0]}, the stack has {count}")
        if not numbers:
            raise ValueError(f"the range is empty, the stack has {count} layers")
        return numbers
    if isinstance(layers, str) and (pair := re.fullmatch(r"(\d+)-(\d+)", layers)):
        numbers = list(range(int(pair[1]), int(pair[2]) + 1))
        if not numbers:
            raise ValueError("the range ends before it begins")
    else:
        numbers = layers if isinstance(layers, list) else [int(layers)]
    for number in numbers:
        if not -count <= number < count:
            raise ValueError(f"there is no layer {number}, the stack has {count} (from 0)")
    return [number % count for number in numbers]


@dataclass(frozen=True)
class Network:
    """What selectors see of a network."""

    model: PreTrainedModel

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """All names of each parameter, by the one that it goes by."""
        return parameter_names(self.model)

    def layout(self, where: str) -> Layout:
        """Return the parts of the network.

        Raises:
            ConfigError: at ``where``, if the layers cannot be told apart.
        """
        if isinstance(self._layout, Layout):
            return self._layout
        raise ConfigError(
            Problem(
                f"the layers of {type(self.model).__name__} cannot be told apart: {self._layout}",
                where,
                remedy='Select parameters by "regex"',
            )
        )

    @cached_property
    def _layout(self) -> Layout | UnknownLayersError:
        try:
            return discover_layers(self.model)
        except UnknownLayersError as error:
            return error

    def select(self, select: SelectConfig, where: str) -> set[str]:
        """Return the names of the parameters that a selector matches, taken or not.

        Raises:
            ConfigError: if there are none, or the stack or a layer does not exist.
        """
        if select.part == "rest":
            return set(self.names)
        if select.regex is not None:
            return self._by_regex(select.regex, f"{where}.regex")
        layout = self.layout(where)
        stack = self._stack(select, layout, where)
        if select.part is not None:
            found = {
                name
                for name, place in layout.places.items()
                if place.part == select.part and (select.stack is None or place.stack == stack)
            }
            if not found:
                raise ConfigError(self._nothing(select, layout, where))
            return found
        numbers = list(range(layout.stacks[stack]))
        if select.layers is not None:
            try:
                numbers = layer_numbers(select.layers, layout.stacks[stack])
            except ValueError as error:
                raise ConfigError(
                    Problem(str(error), f"{where}.layers", str(select.layers), _stacks(layout))
                ) from None
        return {
            name
            for name, place in layout.places.items()
            if place.part == "layer" and place.stack == stack and place.layer in numbers
        }

    def _by_regex(self, pattern: str, where: str) -> set[str]:
        found = {name for name in self.names if re.search(pattern, name)}
        if found:
            return found
        for name, (_, *others) in self.names.items():
            for other in others:
                if re.search(pattern, other):
                    what = f"{other} is tied to {name} and goes by that name"
                    raise ConfigError(Problem(what, where, pattern, "Select that name"))
        plain = re.sub(r"[\\^$]", "", pattern)
        near = difflib.get_close_matches(plain, self.names, n=1, cutoff=0.0)
        raise ConfigError(
            Problem(
                "no parameter has a name that matches",
                where,
                pattern,
                f"The nearest name is {near[0]}",
            )
        )

    def _stack(self, select: SelectConfig, layout: Layout, where: str) -> str:
        """Name of the stack that a selector is about."""
        if select.stack is None:
            if len(layout.stacks) > 1 and select.layers is not None:
                raise ConfigError(
                    Problem(
                        "the network has more than one stack of layers",
                        f"{where}.stack",
                        remedy=f"Name one. {_stacks(layout)}",
                    )
                )
            return next(iter(layout.stacks))
        if select.stack not in layout.stacks:
            raise ConfigError(
                Problem(
                    "the network has no such stack of layers",
                    f"{where}.stack",
                    select.stack,
                    f"{did_you_mean(select.stack, layout.stacks)}. {_stacks(layout)}",
                )
            )
        return select.stack

    def _nothing(self, select: SelectConfig, layout: Layout, where: str) -> Problem:
        if select.part == "head":
            for name, (_, *others) in self.names.items():
                if others and layout.places[name].part != "head":
                    what = f"the head has no parameters of its own: {others[-1]} is tied to {name}"
                    return Problem(what, where, "head", "Remove the group: it follows that one")
        there = sorted({place.part for place in layout.places.values()})
        return Problem(
            "the network has no such part",
            where,
            str(select.part) + (f" of stack {select.stack}" if select.stack else ""),
            f"It has: {', '.join(there)}. {_stacks(layout)}",
        )


def _stacks(layout: Layout) -> str:
    """The stacks of a network for a message."""
    parts = [f"{name} ({count} layers)" for name, count in layout.stacks.items()]
    return "The network's stacks: " + ", ".join(parts)
