"""Loading fast Hugging Face tokenizers, and telling them apart by what they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from headrace.encoding.hub_names import folder_or_hub_name
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.errors import EncodingError, Problem

__all__ = ["load_tokenizer", "needs_space_before_words", "tokenizer_fingerprint", "train_tokenizer"]


def load_tokenizer(name_or_path: str | Path) -> Any:
    """Load a fast tokenizer (``PreTrainedTokenizerFast``) from a local folder or the hub.

    Code that comes with a tokenizer is never run.  Truncation and padding that were saved with it
    are switched off.  A byte-level BPE tokenizer of the RoBERTa kind gets ``add_prefix_space``, as
    split words would otherwise be encoded as if they were glued together.

    Raises :class:`EncodingError` if there is no such tokenizer, or it has no fast version.
    """
    name = folder_or_hub_name(name_or_path)
    if name is None:
        raise EncodingError(
            Problem(
                "no such tokenizer folder",
                str(name_or_path),
                remedy="Check the path, or train a tokenizer: headrace tokenizer --help",
            )
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
    except Exception as error:
        # Transformers reports a missing repository, a broken file, a class that needs remote code
        # and no network as many kinds of exceptions; none of them is worth a traceback.
        raise EncodingError(_not_loaded(name, Path(name).is_dir(), error)) from error
    if not getattr(tokenizer, "is_fast", False):
        raise EncodingError(
            Problem(
                "the tokenizer has no fast version, which is needed to align pieces with words",
                name,
                type(tokenizer).__name__,
                "Use a tokenizer that has a tokenizer.json",
            )
        )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    _set_prefix_space(tokenizer)
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """32 hexadecimal digits over everything that decides which ids a text becomes.

    That is the serialised backend without truncation and padding, which are settings of a call.
    Neither the path nor the name takes part.
    """
    backend = tokenizer.backend_tokenizer
    if backend.truncation is not None or backend.padding is not None:
        backend = Tokenizer.from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    return xxhash.xxh3_128_hexdigest(backend.to_str().encode("utf-8"))


def needs_space_before_words(backend: Any) -> bool:
    """Whether words given one by one have to be given with a space in front.

    True for a ``tokenizers.Tokenizer`` with a byte-level or Metaspace pre-tokenizer that marks the
    beginning of a word by the space before it and does not add that space by itself.
    """
    before, normalizer = _state(backend.pre_tokenizer), _state(backend.normalizer)
    parts = [before, *before.get("pretokenizers", [])]
    steps = [normalizer, *normalizer.get("normalizers", [])]
    if any(step.get("type") == "Prepend" for step in steps):
        return False
    for part in parts:
        if part.get("type") == "ByteLevel":
            return not part["add_prefix_space"]
        if part.get("type") == "Metaspace":
            return bool(part.get("prepend_scheme", "always") == "never")
    return False


def _set_prefix_space(tokenizer: Any) -> None:
    backend = tokenizer.backend_tokenizer
    part = _state(backend.pre_tokenizer)
    if part.get("type") == "ByteLevel" and not part["add_prefix_space"]:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=True, use_regex=part.get("use_regex", True)
        )
        tokenizer.add_prefix_space = True
        tokenizer.init_kwargs["add_prefix_space"] = True


def _state(component: Any) -> dict[str, Any]:
    """The settings of a pre-tokenizer or normalizer as in ``tokenizer.json``; {} for None."""
    return {} if component is None else dict(json.loads(component.__getstate__()))


def _not_loaded(name: str, is_folder: bool, error: Exception) -> Problem:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    remedy = (
        "The folder has to hold tokenizer.json and tokenizer_config.json, as save_pretrained "
        "writes them; tokenizers that bring their own code are not run"
        if is_folder
        else "Check the name on the hub and the network, or give a local folder; with "
        "HF_HUB_OFFLINE=1 only what is in the local cache is used"
    )
    return Problem("the tokenizer cannot be loaded", name, reason, remedy)
