"""The output of a network's head at some places alone.

A head computes each token by itself, and its last layer has a number for each token of the
vocabulary: most of the work, and of the memory, of a network whose labels are few.
"""

from __future__ import annotations

from typing import Any

import torch


def logits_at(
    network: Any, rows: torch.Tensor, columns: torch.Tensor, **inputs: Any
) -> torch.Tensor:
    """Return the logits of some tokens, [places, outputs].

    Args:
        network: with a body and a head, or an engine around it.
        rows: of the tokens, int64[places] on the network's device.
        columns: likewise.
        inputs: what the network is called with.
    """
    module = getattr(network, "module", network)

    def keep(_body: Any, _given: Any, output: Any) -> Any:
        states = getattr(output, "last_hidden_state", None)
        if states is not None:
            output.last_hidden_state = states[rows, columns][None]
        return output

    hook = module.base_model.register_forward_hook(keep)
    try:
        logits: torch.Tensor = network(**inputs).logits
    finally:
        hook.remove()
    # a network that is its own body has computed all of them
    return logits[0] if logits.shape[:2] == (1, len(rows)) else logits[rows, columns]
