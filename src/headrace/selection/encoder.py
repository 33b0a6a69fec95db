"""Texts to vectors: pooled hidden states of a Hugging Face encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from transformers import AutoModel

from headrace.encoding.hub_names import folder_or_hub_name
from headrace.encoding.tokenizer import load_tokenizer, tokenizer_fingerprint
from headrace.errors import EncodingError, Problem, UserError
from headrace.training.model import usable_positions

Pooling = Literal["mean", "cls"]
POOLINGS: tuple[Pooling, ...] = ("mean", "cls")
_VERSION = 1
_BATCH_TOKENS = 8192
"""Tokens of a batch at most, padding included."""
_BATCH_TEXTS = 256
_BEHIND = "pooler."
"""Weights behind the hidden states: of no use here, and random in a folder without them."""


@dataclass(frozen=True)
class Encoder:
    """A network in evaluation mode with its tokenizer; makes one vector of each text."""

    network: Any
    tokenizer: Any
    pooling: Pooling
    """``mean`` of the last hidden states of all tokens, or that of the first token (``cls``)."""
    max_length: int
    """Tokens of a text that are read, special tokens included; the rest is cut off."""
    device: torch.device

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.network.config.hidden_size)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over all that decides what vector a text gets."""
        weights = xxhash.xxh3_128()
        for name, tensor in sorted(self.network.state_dict().items()):
            if name.startswith(_BEHIND):
                continue
            weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        config = self.network.config.to_dict()
        config.pop("_name_or_path", None)
        parts = [
            _VERSION,
            weights.hexdigest(),
            json.dumps(config, sort_keys=True, default=str),
            tokenizer_fingerprint(self.tokenizer),
            self.pooling,
            self.max_length,
        ]
        return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())

    def embed(
        self, texts: Sequence[str], done: Callable[[int], object] = lambda count: None
    ) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
        """``[texts, d]`` vectors and ``[texts]`` lengths in tokens.

        Texts of about the same length are computed together, so that little is padded.  ``done``
        is told the number of texts of each batch.
        """
        vectors = np.empty((len(texts), self.dimensions), np.float16)
        lengths = np.empty(len(texts), np.int32)
        tokens = self._tokens(texts)
        lengths[:] = [len(ids) for ids in tokens]
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = max(1, int(lengths[order[start]]))
            size = min(_BATCH_TEXTS, max(1, _BATCH_TOKENS // longest))
            batch = order[start : start + size]
            vectors[batch] = self._forward([tokens[row] for row in batch])
            done(len(batch))
            start += size
        return vectors, lengths

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return list(encoded["input_ids"])

    @torch.inference_mode()
    def _forward(self, tokens: list[list[int]]) -> NDArray[np.float16]:
        shape = (len(tokens), max(1, max(map(len, tokens))))
        ids = np.full(shape, self.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, own in enumerate(tokens):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        weights = torch.from_numpy(mask).to(self.device)
        hidden = self.network(
            input_ids=torch.from_numpy(ids).to(self.device), attention_mask=weights
        ).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            shares = weights[..., None].to(hidden.dtype)
            pooled = (hidden * shares).sum(1) / shares.sum(1).clamp(min=1)
        return np.asarray(pooled.half().cpu().numpy())


def load_encoder(
    name: str | Path,
    *,
    pooling: Pooling = "mean",
    max_length: int = 128,
    device: torch.device | None = None,
) -> Encoder:
    """Load an encoder from a folder in Hugging Face format, or from the hub.

    Of an encoder-decoder the encoder is taken.  Code that comes with a model is never run.

    Args:
        name: folder or name.
        pooling: how hidden states become one vector.
        max_length: tokens of a text that are read.
        device: default: the first GPU, or the CPU where there is none.

    Raises:
        UserError: with all that is wrong: no such model, weights that are missing, a length that
            the model has no positions for.
    """
    problems: list[Problem] = []
    tokenizer = network = None
    try:
        tokenizer = load_tokenizer(name)
    except UserError as error:
        problems += error.problems
    source = folder_or_hub_name(name)
    if source is None:  # the tokenizer's problem says so
        raise EncodingError(problems)
    try:
        network, loading = AutoModel.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        if not problems:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            remedy = "Give a folder in Hugging Face format, or a name on the hub"
            problems.append(
                Problem(f"the encoder cannot be loaded: {first}", "encoder", str(name), remedy)
            )
    if network is not None:
        missing = sorted(key for key in loading["missing_keys"] if not key.startswith(_BEHIND))
        if missing:
            problems.append(
                Problem(
                    "the folder lacks weights of the encoder, they would be random",
                    "encoder",
                    ", ".join(missing[:5]),
                    "Give a pretrained model",
                )
            )
        most = usable_positions(network.config)
        least = 3
        if not least <= max_length <= most:
            problems.append(
                Problem("out of range", "max_length", str(max_length), f"Give {least} to {most:,}")
            )
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
    if problems:
        raise EncodingError(problems)
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert network is not None
    return Encoder(network.to(device).eval(), tokenizer, pooling, max_length, device)
