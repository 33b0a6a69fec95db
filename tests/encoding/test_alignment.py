from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from headrace.encoding.alignment import LONGEST, AlignedBatch, WordAligner, join_batches
from headrace.errors import EncodingError

WORDS = st.lists(
    st.one_of(
        st.sampled_from(
            ["river", "Mühle", "नदी", "河水", "কোথায়", "می‌آورد", "😀", "\u200b", "\ufe0f"]
        ),
        st.text(st.characters(exclude_categories=["Cs", "Zs"]), min_size=0, max_size=6),
    ),
    max_size=12,
)


@lru_cache
def cached_aligner(tokenizer: Any, max_length: int) -> WordAligner:
    return WordAligner(tokenizer, max_length)


def words_by_library(tokenizer: Any, words: list[str], max_length: int) -> tuple[list[int], Any]:
    """What transformers itself makes of the words, and the first piece of each one."""
    encoded = tokenizer(
        words,
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        split_special_tokens=True,
    )
    positions = [-1] * len(words)
    for index, word in reversed(list(enumerate(encoded.word_ids()))):
        if word is not None:
            positions[word] = index
    return encoded["input_ids"], positions


def test_word_piece_golden(bert: Any) -> None:
    batch = WordAligner(bert, 12).align(
        [["the", "headrace", "\u200b", "Zürich", "\ufe0f", "!"], [], ["mill"]]
    )
    tokens = bert.convert_ids_to_tokens(batch.tokens.tolist())
    assert tokens == [
        *("[CLS]", "the", "head", "##race", "zurich", "!", "[SEP]"),
        *("[CLS]", "[SEP]"),
        *("[CLS]", "mill", "[SEP]"),
    ]
    # The zero-width space and the lone variation selector have no piece.
    assert batch.word_positions.tolist() == [1, 2, -1, 4, -1, 5, 1]
    assert batch.token_offsets.tolist() == [0, 7, 9, 12]
    assert batch.word_offsets.tolist() == [0, 6, 6, 7]
    assert not batch.word_truncated.any()
    assert batch.first_pieces().tolist() == [1, 2, -1, 4, -1, 5, 10]


def test_sentencepiece_golden(trained: Any) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(trained)
    batch = WordAligner(tokenizer, 30).align([["the", "\u200b", "\ufe0f", "नदी", "<s>"]])
    tokens = tokenizer.convert_ids_to_tokens(batch.tokens.tolist())
    # A zero-width space is a space for nmt_nfkc; a variation selector is spelt in bytes.
    bytes_of_selector = ["▁", "<0xEF>", "<0xB8>", "<0x8F>"]
    assert tokens[0] == "<s>"
    assert tokens[-1] == "</s>"
    assert "<s>" not in tokens[1:]
    positions = batch.word_positions.tolist()
    assert positions[1] == -1
    assert tokens[positions[2] : positions[2] + 4] == bytes_of_selector
    assert all(tokens[position].startswith("▁") for position in positions if position >= 0)
    assert tokenizer.convert_tokens_to_string(tokens[1:-1]) == "the \ufe0f नदी <s>"


def test_truncation_golden(bert: Any) -> None:
    # [CLS] the head ##race [SEP]: the last word and the second piece of "waterwheel" are cut.
    batch = WordAligner(bert, 5).align(
        [["the", "headrace", "\u200b", "mill"], ["the", "mill", "waterwheel"], ["the", "mill"]]
    )
    tokens = bert.convert_ids_to_tokens(batch.tokens.tolist())
    assert tokens[:5] == ["[CLS]", "the", "head", "##race", "[SEP]"]
    assert tokens[5:10] == ["[CLS]", "the", "mill", "water", "[SEP]"]
    assert batch.word_positions.tolist() == [1, 2, -1, -1, 1, 2, 3, 1, 2]
    assert batch.word_truncated.tolist() == [False] * 3 + [True] + [False] * 5
    assert batch.sentence_truncated.tolist() == [True, True, False]


@pytest.mark.parametrize("name", ["tokenizer", "bert"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sentences=st.lists(WORDS, max_size=4))
def test_agrees_with_the_library(
    name: str, request: pytest.FixtureRequest, sentences: list[list[str]]
) -> None:
    tokenizer = request.getfixturevalue(name)
    for max_length in (5, 24):
        batch = cached_aligner(tokenizer, max_length).align(sentences)
        for number, words in enumerate(sentences):
            expected, positions = words_by_library(tokenizer, words, max_length)
            tokens = slice(*batch.token_offsets[number : number + 2])
            own_words = slice(*batch.word_offsets[number : number + 2])
            assert batch.tokens[tokens].tolist() == expected
            assert batch.word_positions[own_words].tolist() == positions


@given(words=WORDS, max_length=st.integers(3, 24))
def test_a_position_is_the_first_piece_of_its_word(
    tokenizer: Any, words: list[str], max_length: int
) -> None:
    """A word that is encoded alone gives the pieces that begin at its position."""
    batch = cached_aligner(tokenizer, max_length).align([words])
    alone = cached_aligner(tokenizer, LONGEST).align([[word] for word in words])
    for number, position in enumerate(batch.word_positions.tolist()):
        begin, end = alone.token_offsets[number : number + 2]
        pieces = alone.tokens[begin + 1 : end - 1].tolist()
        if position >= 0:
            kept = batch.tokens[position : position + len(pieces)].tolist()
            assert kept == pieces or (kept[-1] == tokenizer.sep_token_id)
            assert kept[0] == pieces[0]
        else:
            assert not pieces or batch.word_truncated[number]
    kept_words = batch.word_positions[batch.word_positions >= 0]
    assert (np.diff(kept_words) > 0).all()


@pytest.mark.parametrize("kind", ["roberta", "llama"])
def test_byte_level_words_are_encoded_with_the_space_before_them(kind: str) -> None:
    backend = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "llama":
        byte_level = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r" ?\p{L}+|.+"), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.pre_tokenizer = byte_level
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([" the river the river turns"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    batch = WordAligner(tokenizer, 20).align([["the", "", "river"]])
    assert batch.tokens.tolist() == backend.encode(" the river", add_special_tokens=False).ids
    tokens = tokenizer.convert_ids_to_tokens(batch.tokens.tolist())
    assert tokens[0].startswith("Ġ")
    assert batch.word_positions.tolist() == [0, -1, tokens.index("Ġriver")]


def test_the_tokenizer_itself_is_left_alone(tokenizer: Any) -> None:
    before = tokenizer.backend_tokenizer.to_str()
    WordAligner(tokenizer, 8).align([["<s>"]])
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer("<mask>").input_ids == [0, 4, 2]


@pytest.mark.parametrize("max_length", [-1, 0, 2, LONGEST + 1])
def test_a_length_without_room_is_an_error(tokenizer: Any, max_length: int) -> None:
    with pytest.raises(EncodingError, match="Use 3 to 32767"):
        WordAligner(tokenizer, max_length)


def test_joined_batches_are_the_batch_of_all(
    tokenizer: Any, make_words: Callable[..., list[list[str]]]
) -> None:
    sentences = [[], *make_words("hi", 7), *make_words("zh", 6)]
    aligner = WordAligner(tokenizer, 12)
    parts = [aligner.align(sentences[:5]), aligner.align([]), aligner.align(sentences[5:])]
    whole, joined = aligner.align(sentences), join_batches(parts)
    for name in AlignedBatch.__dataclass_fields__:
        assert np.array_equal(getattr(joined, name), getattr(whole, name)), name
        assert getattr(joined, name).dtype == getattr(whole, name).dtype, name
    assert len(join_batches([]).tokens) == 0
