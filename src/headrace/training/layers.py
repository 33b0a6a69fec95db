"""Where each parameter of a network is: embeddings, a layer of a stack, behind it, or the head.

Nothing here knows the name of a network.  A stack is an outermost ``ModuleList`` whose members
``transformers`` can checkpoint one by one (``GradientCheckpointingLayer``), which is what it makes
its layers of; where there is none, a list of modules of one class that holds over 5 % of the
parameters in such lists.  The number of layers must be the one in the network's config.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

_LEAST_SHARE = 0.05
_COUNTS = ("num_hidden_layers", "decoder_layers", "num_decoder_layers")
"""Where a config says how many layers a stack has; encoders count as the first."""


class UnknownLayersError(ValueError):
    """The layers of a network cannot be told apart; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where a parameter is."""

    part: Literal["embeddings", "layer", "after", "head"]
    stack: str | None = None
    """Stack that the layer, the embeddings or what is behind the layers belong to, if to one."""
    layer: int | None = None
    """Number of the layer in its stack, from 0 at the input."""


@dataclass(frozen=True)
class Layout:
    """The parts of a network."""

    stacks: Mapping[str, int]
    """Layers of each stack, in the order in which data passes them."""
    places: Mapping[str, Place]
    """Place of each parameter, by the name that :func:`parameter_names` gives it."""


def parameter_names(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Return all names of each parameter, by the one that it goes by.

    Parameters that are tied are one parameter: it goes by its name in the body of the network,
    where it has one there, and so an embedding matrix that is also the output layer is an
    embedding.
    """
    prefix = _body_prefix(model)
    names: dict[torch.nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    found = {}
    for same in names.values():
        first = next((name for name in same if name.startswith(prefix)), same[0])
        found[first] = (first, *(name for name in same if name != first))
    return found


def discover_layers(model: PreTrainedModel) -> Layout:
    """Return the stacks of a network, and where each parameter is.

    Raises:
        UnknownLayersError: if layers share parameters, or the stacks are not those of the config.
    """
    prefix = _body_prefix(model)
    lists = _stacks(model.base_model)
    stacks = {name: len(layers) for name, layers in lists.values()}
    _check_counts(model, list(stacks.values()))
    head, embedded = head_parameters(model), _embedded(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    places = {}
    for name in parameter_names(model):
        if name in head:
            places[name] = Place("head")
            continue
        places[name] = _place(
            name.removeprefix(prefix),
            model.base_model,
            lists,
            embedded=id(parameters[name]) in embedded,
        )
    return Layout(stacks, places)


def head_parameters(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the parameters of the head, of any network, as `parameter_names` does.

    A parameter behind the body is the head's, also where the body is the whole network.
    """
    prefix = _body_prefix(model)
    outputs = model.get_output_embeddings() if not prefix else None
    own = {id(parameter) for parameter in outputs.parameters()} if outputs is not None else set()
    own -= _embedded(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return frozenset(
        name
        for name in parameter_names(model)
        if not name.startswith(prefix) or id(parameters[name]) in own
    )


def _embedded(model: PreTrainedModel) -> set[int]:
    """Ids of the parameters of the embeddings in the body."""
    return {
        id(parameter)
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }


def _place(
    name: str,
    body: torch.nn.Module,
    lists: Mapping[str, tuple[str, torch.nn.ModuleList]],
    *,
    embedded: bool,
) -> Place:
    """Place of a parameter of the body: within a stack, beside it, or outside of all of them."""
    for path, (stack, _) in lists.items():
        if name.startswith(f"{path}."):
            return Place("layer", stack, int(name.removeprefix(f"{path}.").split(".")[0]))
    beside = {path: path.rpartition(".")[0] for path in lists}
    around = [path for path, parent in beside.items() if parent and name.startswith(f"{parent}.")]
    path = around[0] if around else next(iter(lists))
    # networks keep tables of relative positions behind the layers that read them
    before = embedded or _comes_before(body, name, path)
    return Place("embeddings" if before else "after", lists[path][0] if around else None)


def _comes_before(body: torch.nn.Module, name: str, path: str) -> bool:
    """Whether a parameter is used before a stack.

    What the forward method of the smallest module around both names first comes first.  Where it
    does not name both, the order in which the module was made decides.
    """
    ours, theirs = name.split("."), path.split(".")
    shared = 0
    while ours[shared] == theirs[shared]:
        shared += 1
    around = body.get_submodule(".".join(ours[:shared]))
    text = _source_of_forward(type(around))
    uses = [re.search(rf"\bself\.{part[shared]}\b", text) for part in (ours, theirs)]
    if uses[0] and uses[1]:
        return uses[0].start() < uses[1].start()
    made = [
        child for child, _ in (*around.named_parameters(recurse=False), *around.named_children())
    ]
    return made.index(ours[shared]) < made.index(theirs[shared])


def _source_of_forward(kind: type[torch.nn.Module]) -> str:
    """Text of a forward method, empty where there is none to read."""
    try:
        return inspect.getsource(inspect.unwrap(kind.forward))
    except (OSError, TypeError):
        return ""


def _body_prefix(model: PreTrainedModel) -> str:
    """What the names of the parameters of the body begin with; empty if it is the network."""
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def _stacks(body: torch.nn.Module) -> dict[str, tuple[str, torch.nn.ModuleList]]:
    """Return the stacks by path, each with its name and its layers."""
    outermost: dict[str, torch.nn.ModuleList] = {}
    for path, module in body.named_modules():
        inside = any(path.startswith(f"{other}.") for other in outermost)
        if inside or not isinstance(module, torch.nn.ModuleList) or not len(module):
            continue
        if not isinstance(module[0], torch.nn.ModuleList):  # a list of lists is looked into
            outermost[path] = module
    chosen = {
        path: module
        for path, module in outermost.items()
        if all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    }
    if not chosen:
        sizes = {path: _size(module) for path, module in outermost.items()}
        chosen = {
            path: module
            for path, module in outermost.items()
            if len({type(layer) for layer in module}) == 1
            and sizes[path] > _LEAST_SHARE * sum(sizes.values())
        }
    if not chosen:
        raise UnknownLayersError("there is no list of layers in it")
    short = {path: path.rpartition(".")[0].rpartition(".")[2] or path for path in chosen}
    ambiguous = len(set(short.values())) < len(short)
    return {path: (path if ambiguous else short[path], module) for path, module in chosen.items()}


def _size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_counts(model: PreTrainedModel, found: list[int]) -> None:
    """Compare the stacks with the config: other numbers mean shared layers, or other structures.

    Raises:
        UnknownLayersError: naming both.
    """
    settings = model.config
    said = {key: getattr(settings, key) for key in _COUNTS if hasattr(settings, key)}
    encoder = said.get("num_hidden_layers")
    decoders = [value for key, value in said.items() if key != "num_hidden_layers"]
    if len(found) == 1:
        fits = found[0] in said.values()
    else:
        fits = len(found) == 2 and found[0] == encoder and found[1] in decoders
    if not fits:
        counts = ", ".join(map(str, found))
        raise UnknownLayersError(
            f"it has stacks of {counts} layers, its config says {encoder}: layers share their "
            "parameters, or are made in another way"
        )
