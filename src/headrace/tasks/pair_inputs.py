"""What a network that reads pairs of texts is called with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def pair_inputs(network: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a batch with token types, which go where there is a use for them."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if takes_token_types(network):
        inputs["token_type_ids"] = batch["token_type_ids"]
    return inputs


def takes_token_types(network: Any) -> bool:
    """Whether a network, or the engine around one, tells the two parts of a pair by token types."""
    module = getattr(network, "module", network)
    if int(getattr(module.config, "type_vocab_size", 0)) < 2:
        return False
    return "token_type_ids" in inspect.signature(module.forward).parameters
