"""The network: from a config, from a pretrained folder or hub name, or from an earlier stage."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from headrace.config.messages import did_you_mean
from headrace.config.schema import ModelConfig
from headrace.encoding.hub_names import folder_or_hub_name
from headrace.errors import ConfigError, Problem
from headrace.training.lora import add_adapters

if TYPE_CHECKING:
    from headrace.tasks.task import Task

_POSITIONS_BEHIND_PADDING = {
    "camembert", "data2vec-text", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Kinds of networks that count positions from the padding id + 1."""
_REFUSED = (OSError, ValueError, TypeError, KeyError, StrictDataclassError)
"""What transformers raises for names, values and folders that it cannot use."""
_DROPOUT_WORDS = ("dropout", "dropout_prob", "dropout_rate", "_pdrop")


def model_config(
    config: ModelConfig, task: Task, tokenizer: PreTrainedTokenizerFast
) -> PretrainedConfig:
    """Return the network's Hugging Face config, with the task's label names and the dropout rate.

    Raises:
        ConfigError: if the name or the model type is unknown, or the config does not fit.
    """
    if config.pretrained is not None:
        try:
            network = AutoConfig.from_pretrained(
                _pretrained_source(config.pretrained), **task.model_settings()
            )
        except _REFUSED as error:
            raise _unknown_model("headrace.model.pretrained", config.pretrained, error) from None
    else:
        settings = dict(config.config or {})
        kind = settings.pop("model_type")
        settings.setdefault("vocab_size", len(tokenizer))
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if getattr(tokenizer, name, None) is not None:
                settings.setdefault(name, getattr(tokenizer, name))
        try:
            network = AutoConfig.for_model(kind, **settings, **task.model_settings())
            known = {*vars(AutoConfig.for_model(kind)), *network.attribute_map}
        except _REFUSED as error:
            raise _unknown_model("headrace.model.config", kind, error) from None
        unknown = [
            Problem(
                f"the config of {kind} has no such key",
                f"headrace.model.config.{key}",
                remedy=did_you_mean(key, known),
            )
            for key in settings
            if key not in known
        ]
        if unknown:
            raise ConfigError(unknown)
    if getattr(network, "pad_token_id", None) is None:
        network.pad_token_id = tokenizer.pad_token_id  # decoders look for the last real token
    largest = max(tokenizer.get_vocab().values())
    if largest >= network.vocab_size:
        raise ConfigError(
            Problem(
                f"the tokenizer has token ids up to {largest}, the model's vocabulary fewer",
                "headrace.model",
                str(network.vocab_size),
                "Use the model's own tokenizer, or leave vocab_size out of a model from scratch",
            )
        )
    if config.dropout is not None:
        for name, value in vars(network).copy().items():
            if name.endswith(_DROPOUT_WORDS) and isinstance(value, float | int):
                setattr(network, name, config.dropout)
    return network


def check_length(max_length: int, settings: PretrainedConfig) -> None:
    """Check that a network has positions for the longest sample.

    Raises:
        ConfigError: naming both numbers.
    """
    if max_length > usable_positions(settings):
        raise ConfigError(
            Problem(
                f"the model has positions for {usable_positions(settings)} tokens",
                "headrace.task.max_length",
                str(max_length),
                "Lower it, or raise max_position_embeddings of a model from scratch",
            )
        )


def check_attention(config: ModelConfig, device: torch.device) -> None:
    """Check that the attention that is asked for can be trained on a device.

    Raises:
        ConfigError: for flex attention on the CPU, of which PyTorch computes no gradients.
    """
    if config.attention == "flex_attention" and device.type == "cpu":
        raise ConfigError(
            Problem(
                "PyTorch computes no gradients of it on the CPU",
                "headrace.model.attention",
                config.attention,
                'Set it to "sdpa", or train on a GPU',
            )
        )


def usable_positions(settings: Any) -> int:
    """Return the number of tokens that a network has positions for (very many if any number)."""
    positions = getattr(settings, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return sys.maxsize  # relative or rotary positions
    return positions - first_position(settings)


def first_position(settings: Any) -> int:
    """Return the position id of a sample's first token."""
    if settings.model_type in _POSITIONS_BEHIND_PADDING:
        return int(settings.pad_token_id or 0) + 1
    return 0


def build_model(
    config: ModelConfig,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    adapter_seed: int = 0,
    start_folder: Path | None = None,
) -> PreTrainedModel:
    """Return the network in fp32, its new weights drawn from ``seed``, with the config's adapters.

    Args:
        config: the config's ``model`` section.
        task: gives the model class and the labels.
        tokenizer: gives the vocabulary size of a model from scratch.
        seed: seed of weights that are not loaded, such as a new classification head.
        adapter_seed: seed of the adapters' weights.
        start_folder: exported model of an earlier stage, in place of the weights of ``config``.
    """
    torch.manual_seed(seed)
    new: list[str] = []
    if start_folder is not None:
        attention = _attention(config)
        network = task.model_class.from_pretrained(
            str(start_folder), dtype=torch.float32, **attention
        )
    elif config.pretrained is None:
        network = new_model(config, task, tokenizer)
    else:
        network, new = _pretrained_model(config, task, tokenizer)
    if config.lora is not None:
        torch.manual_seed(adapter_seed)
        add_adapters(network, config.lora, new)
    if config.gradient_checkpointing:
        # the other kind gives no gradients to layers behind frozen ones
        network.gradient_checkpointing_enable({"use_reentrant": False})
    return network


def _pretrained_model(
    config: ModelConfig, task: Task, tokenizer: PreTrainedTokenizerFast
) -> tuple[PreTrainedModel, list[str]]:
    """The network of ``pretrained``, and the parameters that the folder lacks."""
    name = str(config.pretrained)
    settings = model_config(config, task, tokenizer)
    try:
        network, loading = task.model_class.from_pretrained(
            _pretrained_source(name),
            config=settings,
            dtype=torch.float32,
            **_attention(config),
            ignore_mismatched_sizes=True,  # a head for other labels is replaced by a new one
            output_loading_info=True,
        )
    except _REFUSED as error:
        raise _unknown_model("headrace.model.pretrained", name, error) from None
    new = [key for key, _ in network.named_parameters() if key in loading["missing_keys"]]
    missing = [
        key
        for key in loading["missing_keys"]
        if key.startswith(network.base_model_prefix + ".")
        and not set(task.new_modules) & set(key.split("."))
    ]
    if missing:
        raise ConfigError(
            Problem(
                "the folder lacks weights of this network, they would be random",
                "headrace.model.pretrained",
                ", ".join(sorted(missing)[:5]),
                "Give a folder whose weights belong to its config",
            )
        )
    return network, new


def new_model(
    config: ModelConfig, task: Task, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Return the network in fp32 with new weights, also where ``config`` names pretrained ones."""
    settings = model_config(config, task, tokenizer)
    return task.model_class.from_config(settings, dtype=torch.float32, **_attention(config))


def _attention(config: ModelConfig) -> dict[str, str]:
    return {"attn_implementation": config.attention} if config.attention else {}


def empty_model(
    config: ModelConfig, task: Task, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Return the network without memory for its weights, to look at names and sizes.

    Raises:
        ConfigError: if the model cannot be made, or not with the attention or the adapters that
            are asked for.
        MissingExtraError: for adapters, without peft.
    """
    settings = model_config(config, task, tokenizer)
    try:
        with torch.device("meta"):
            network = task.model_class.from_config(settings)
    except _REFUSED as error:
        raise _unknown_model("headrace.model.config", settings.model_type, error) from None
    if config.attention:
        try:
            network.set_attn_implementation(config.attention)
            chosen = network.config._attn_implementation
        except (ValueError, ImportError) as error:
            chosen = str(error).splitlines()[0][:200]
        if chosen != config.attention:
            raise ConfigError(
                Problem(
                    f"{type(network).__name__} cannot compute its attention in this way here",
                    "headrace.model.attention",
                    config.attention,
                    f"Leave it out ({chosen})",
                )
            )
    if config.gradient_checkpointing and not network.supports_gradient_checkpointing:
        raise ConfigError(
            Problem(
                f"{type(network).__name__} cannot compute its activations again",
                "headrace.model.gradient_checkpointing",
                "true",
                "Set it to false",
            )
        )
    if config.lora is not None:
        add_adapters(network, config.lora)
    return network


def _pretrained_source(name: str) -> str:
    """The folder or the name on the hub; :class:`ConfigError` for a path without a folder."""
    source = folder_or_hub_name(name)
    if source is None:
        where, remedy = "headrace.model.pretrained", "Check the path, or give a name on the hub"
        raise ConfigError(Problem("no such model folder", where, name, remedy))
    return source


def _unknown_model(where: str, name: str, error: Exception) -> ConfigError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    remedy = "Give a local folder in Hugging Face format or a name on the hub"
    if os.environ.get("HF_HUB_OFFLINE"):
        remedy += " (HF_HUB_OFFLINE is set: only local folders and cached models can be used)"
    return ConfigError(Problem(f"the model cannot be loaded: {first_line}", where, name, remedy))
