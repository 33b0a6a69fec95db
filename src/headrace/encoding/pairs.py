"""Texts and pairs of texts by a tokenizer's own template."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer


def copied_backend(tokenizer: Any) -> Any:
    """A copy of a tokenizer's backend, so that nothing that is set in it is seen elsewhere.

    It neither cuts nor pads, and special tokens that are spelt out in a text are encoded as text:
    data cannot inject ``[SEP]``.
    """
    backend: Any = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def has_token_types(tokenizer: Any) -> bool:
    """Whether a tokenizer tells the two parts of a pair by token types."""
    return "token_type_ids" in tokenizer.model_input_names


def pair_template(tokenizer: Any) -> str:
    """How a tokenizer puts pairs, for the fingerprint of what is encoded."""
    return "pair with token types" if has_token_types(tokenizer) else "pair"
