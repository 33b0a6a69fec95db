from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from headrace.encoding.tokenizer import (
    load_tokenizer,
    needs_space_before_words,
    tokenizer_fingerprint,
)
from headrace.errors import EncodingError


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    """The folder of a byte-level BPE tokenizer of the RoBERTa kind, without a prefix space."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["the river the mill"] * 5, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path / "byte_level")
    return tmp_path / "byte_level"


def test_a_real_tokenizer_loads_without_its_saved_truncation(bert: Any) -> None:
    # The folder says: cut and pad everything to 128.
    saved = json.loads(Path(bert.name_or_path, "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["truncation"]["max_length"] == saved["padding"]["strategy"]["Fixed"] == 128
    tokenizer = load_tokenizer(bert.name_or_path)
    assert tokenizer.is_fast
    assert len(tokenizer) == 30_522
    assert len(tokenizer("river " * 200).input_ids) == 202
    assert len(tokenizer.backend_tokenizer.encode("river").ids) == 3


def test_the_fingerprint_depends_on_the_content_only(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    first, second = load_tokenizer(trained), load_tokenizer(tmp_path / "copy")
    fingerprint = tokenizer_fingerprint(first)
    assert len(fingerprint) == 32
    assert tokenizer_fingerprint(second) == fingerprint
    second(["the", "the river"], padding=True, truncation=True, max_length=8)
    assert second.backend_tokenizer.truncation is not None
    assert tokenizer_fingerprint(second) == fingerprint
    second.add_tokens(["headrace"])
    assert tokenizer_fingerprint(second) != fingerprint


def test_a_byte_level_tokenizer_gets_a_prefix_space(byte_level: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(byte_level)
    words = tokenizer(["the", "river"], is_split_into_words=True)
    assert words.tokens() == ["Ġthe", "Ġriver"]
    tokenizer.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").tokenize("river") == ["Ġriver"]


def test_which_tokenizers_need_a_space_before_words() -> None:
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(r"\w+", "isolated")
    cases = [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), True),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), False),
        (pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)]), True),
        (pre_tokenizers.Metaspace(prepend_scheme="never"), True),
        (pre_tokenizers.Metaspace(prepend_scheme="first"), False),
        (pre_tokenizers.BertPreTokenizer(), False),
    ]
    for pre_tokenizer, expected in cases:
        backend.pre_tokenizer = pre_tokenizer
        assert needs_space_before_words(backend) is expected, pre_tokenizer


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match="no such tokenizer folder"):
        load_tokenizer(tmp_path / "nothing")


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_an_unknown_name_on_the_hub_names_the_offline_switch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncodingError, match="HF_HUB_OFFLINE") as caught:
        load_tokenizer("headrace/there-is-no-such-tokenizer")
    assert caught.value.exit_code == 2


def test_code_beside_a_tokenizer_is_not_run(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(trained, folder)
    marker = tmp_path / "was run"
    (folder / "hostile.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass T: pass\n")
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoTokenizer": [None, "hostile.T"]}
    config["tokenizer_class"] = "T"
    file.write_text(json.dumps(config), encoding="utf-8")
    # Loading with the plain class, or not at all: both are fine as long as nothing is run.
    with contextlib.suppress(EncodingError):
        load_tokenizer(folder)
    assert not marker.exists()
    with contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert marker.exists(), "the folder would run no code anyway: the test proves nothing"
