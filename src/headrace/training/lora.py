"""Adapters of low rank in a network whose other weights stay as they are (LoRA, Hu et al. 2021).

``peft`` puts them into the network in place, so that it is still a network of its class: layers
are found in it as before, and each adapter is in the layer that it adapts.  What is exported is
plain: :func:`merged` adds each adapter to the weights of its layer.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Mapping, Sequence

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headrace.config.lora import LoraConfig
from headrace.errors import ConfigError, MissingExtraError, Problem
from headrace.training.layers import head_parameters

_WHERE = "headrace.model.lora"
_ADAPTER = "default"
"""What peft calls the only adapter of a layer."""


def add_adapters(network: PreTrainedModel, settings: LoraConfig, new: Collection[str] = ()) -> None:
    """Put an adapter on linear layers, and leave gradients to the adapters and the head alone.

    The network answers as before: what an adapter says is 0 at first.

    Args:
        network: changed in place; it may be without memory.
        settings: rank, scale, dropout, and which layers.
        new: parameters whose values are random because a pretrained folder lacks them: they are
            trained as the head is.

    Raises:
        MissingExtraError: without peft.
        ConfigError: for each name that no linear layer has, with those that are there, and for a
            network that peft refuses.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", "lora", _WHERE) from error
    trained = {*head_parameters(network), *new}
    whole = {name.rpartition(".")[0] for name in trained}
    chosen = _chosen(network, settings, whole)
    adapters = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="|".join(map(re.escape, chosen)),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # GPT-2
        try:
            peft.inject_adapter_in_model(adapters, network, _ADAPTER)
        except ValueError as error:
            reason = str(error).splitlines()[0][:200]
            what = f"peft cannot adapt these layers of {type(network).__name__}: {reason}"
            remedy = f"Name some of them: {_listed(chosen)}"
            raise ConfigError(Problem(what, f"{_WHERE}.modules", remedy=remedy)) from None
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name in trained:
        parameters[name].requires_grad_(True)


def merged(state: Mapping[str, torch.Tensor], network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of the plain network: those of each adapter are added to its layer's.

    Args:
        state: whole fp32 tensors by the names that they have in the network.
        network: with adapters or without; its own weights are not looked at.
    """
    plain = dict(state)
    if not hasattr(network, "peft_config"):
        return plain
    from peft.tuners.lora import LoraLayer

    for path, layer in network.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        down = plain.pop(f"{path}.lora_A.{_ADAPTER}.weight")
        change = plain.pop(f"{path}.lora_B.{_ADAPTER}.weight") @ down
        if layer.fan_in_fan_out:  # GPT-2 keeps its weights the other way round
            change = change.T
        for name, _ in layer.base_layer.named_parameters():
            plain[f"{path}.{name}"] = plain.pop(f"{path}.base_layer.{name}")
        plain[f"{path}.weight"] = plain[f"{path}.weight"] + change * layer.scaling[_ADAPTER]
    return plain


def _chosen(network: PreTrainedModel, settings: LoraConfig, whole: Collection[str]) -> list[str]:
    """Paths of the layers that get an adapter; modules in ``whole`` are not among them.

    Raises:
        ConfigError: for names that no such layer has.
    """
    outputs = network.get_output_embeddings()  # not the head's own where it is tied
    modules = {
        path: module
        for path, module in network.named_modules()
        if path not in whole and module is not outputs
    }
    kinds = (torch.nn.Linear, Conv1D)
    linear = [path for path, module in modules.items() if isinstance(module, kinds)]
    names = [""] if isinstance(settings.modules, str) else settings.modules
    chosen: dict[str, None] = {}
    problems = []
    for number, name in enumerate(names):
        found = [path for path in linear if f".{path}".endswith(f".{name}" if name else "")]
        chosen.update(dict.fromkeys(found))
        if found:
            continue
        where = f"{_WHERE}.modules" + (f".{number}" if name else "")
        what = "the network has no linear layer of this name"
        if any(f".{path}".endswith(f".{name}") for path in modules):
            what = "modules of this name are no linear layers"
        near = difflib.get_close_matches(name, {_last(path) for path in linear}, n=1)
        remedy = f"Did you mean {near[0]!r}? " if near else ""
        remedy += f"Linear layers outside of the head: {_listed(linear) or 'none'}"
        problems.append(Problem(what, where, name or "all_linear", remedy))
    if problems:
        raise ConfigError(problems)
    return list(chosen)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(sorted({_last(path) for path in paths}))
