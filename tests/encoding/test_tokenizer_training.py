from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import AutoConfig, AutoTokenizer

from headrace.encoding.sentencepiece_bridge import CLUSTER_BREAK, SPECIAL_TOKENS, to_fast_tokenizer
from headrace.encoding.tokenizer_training import sample_counts, train_tokenizer
from headrace.errors import EncodingError, ShardError
from headrace.shards import ShardReader
from headrace.shards.sample import make_sample

ODD_TEXTS = [
    "",
    " ",
    "  spaces   in  front ",
    "emoji 😀 👨‍👩‍👧 ❤️ 🇮🇳 end",
    "zero\u200bwidth \u200b \u2060 \ufeff",
    "می\u200cآورد",
    "ｶﾞﾊﾟ ～ ① ﬁ ½ Ⅷ",
    "tab\tand\nnew line",
    "▁under▁score ▁",
    "한글 각 漢字 かな",
    "ক\u09c7\u09be ড\u09bc ज\u093c",
    "nbsp\u00a0\u00a0x \u3000wide",
    "\x00\x01 control",
    "𝒽ℯ𝓁𝓁ℴ 𐍈 𓀀",
    "literal <s> </s> <mask> <pad> <unk> <0x41> x<s>y",
]


@lru_cache
def both_of(folder: Path) -> tuple[Any, Any]:
    model = (folder / "sentencepiece.model").read_bytes()
    return sentencepiece.SentencePieceProcessor(model_proto=model), to_fast_tokenizer(model)


def pieces_of_both(folder: Path, texts: list[str]) -> tuple[list[Any], list[Any]]:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.model"))
    fast = AutoTokenizer.from_pretrained(folder)
    encoded = fast(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return reference.encode(texts), encoded


def test_ids_agree_with_sentencepiece(
    trained: Path, languages: list[str], make_words: Callable[..., list[list[str]]]
) -> None:
    texts = [" ".join(words) for name in languages for words in make_words(name, 30, seed=9)]
    expected, found = pieces_of_both(trained, texts + ODD_TEXTS)
    assert found == expected


@pytest.mark.parametrize("normalization", ["nfkc", "nmt_nfkc_cf", "identity"])
def test_ids_agree_for_every_normalization(
    normalization: str, text_sources: list[ShardReader], tmp_path: Path
) -> None:
    folder = train_tokenizer(text_sources, tmp_path / "t", 540, normalization=normalization)
    # The fast tokenizer takes a literal U+2581 for a space under every rule.
    texts = [unicodedata.normalize("NFC", text.replace("▁", " ")) for text in ODD_TEXTS]
    expected, found = pieces_of_both(folder, [*texts, "Der GROSSE Fluß"])
    assert found == expected


@given(
    text=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters=CLUSTER_BREAK), max_size=40
    )
)
def test_ids_agree_on_any_composed_text(trained: Path, text: str) -> None:
    text = normalizers.NFC().normalize_str(text)
    reference, fast = both_of(trained)
    found = fast(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    # SentencePiece can leave a letter and a mark apart that its own map has made neighbours; the
    # fast tokenizer composes them.
    expected = reference.normalize(text)
    assume(normalizers.NFC().normalize_str(expected) == expected)
    assert found == reference.encode(text)


@pytest.mark.parametrize("mark", ["\u0ec8", "\ufe0f", "\u200d", "\u0903", "\U0001f3fb"])
def test_marks_on_mapped_letters_are_kept(trained: Path, mark: str) -> None:
    reference, fast = both_of(trained)
    for letter in "²①ﬁ\u00a0\u2028Ⅷ½":
        found = fast(f"a{letter}{mark}b", add_special_tokens=False)["input_ids"]
        assert found == reference.encode(f"a{letter}{mark}b"), letter


def test_loads_by_itself_and_beside_a_model_config(trained: Path, tmp_path: Path) -> None:
    alone = AutoTokenizer.from_pretrained(trained)
    for model_type in ("bert", "xlm-roberta"):
        folder = tmp_path / model_type
        shutil.copytree(trained, folder)
        AutoConfig.for_model(model_type).save_pretrained(folder)
        beside = AutoTokenizer.from_pretrained(folder)
        assert beside.is_fast
        assert beside("नदी the 河水 <mask>") == alone("नदी the 河水 <mask>")
    saved = tmp_path / "saved"
    alone.save_pretrained(saved)
    assert AutoTokenizer.from_pretrained(saved)("der Fluß") == alone("der Fluß")


def test_special_tokens_frame_a_sentence(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS.values())) == [0, 1, 2, 3, 4]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 2)
    assert tokenizer.pad_token_id == 1
    single = tokenizer("the river").input_ids
    pair = tokenizer("the river", "water").input_ids
    assert (single[0], single[-1]) == (0, 2)
    assert pair[: len(single)] == single
    assert pair[len(single)] == 2
    assert tokenizer("the <mask>").input_ids[-2] == tokenizer.mask_token_id == 4
    padded = tokenizer(["the", "the river carries"], padding=True)
    assert padded.input_ids[0][-1] == 1
    assert padded.attention_mask[0][-1] == 0


def test_decoding_gives_the_text_back(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    text = "the नदी 河水 😀 könnte"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_same_input_gives_the_same_bytes(
    text_sources: list[ShardReader], trained: Path, tmp_path: Path
) -> None:
    again = train_tokenizer(text_sources, tmp_path / "again", 540, model_type=trained.name)
    names = sorted(path.name for path in trained.iterdir())
    assert names == [
        "sentencepiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    ]
    for name in names:
        assert (again / name).read_bytes() == (trained / name).read_bytes(), name


def test_another_seed_draws_other_samples(text_sources: list[ShardReader], tmp_path: Path) -> None:
    models = [
        train_tokenizer(text_sources, tmp_path / f"{seed}", 520, max_sentences=200, seed=seed)
        / "sentencepiece.model"
        for seed in (0, 1)
    ]
    assert models[0].read_bytes() != models[1].read_bytes()


def test_a_finished_folder_is_kept_and_another_one_is_refused(
    text_sources: list[ShardReader], tmp_path: Path
) -> None:
    folder = train_tokenizer(text_sources, tmp_path / "t", 540)
    before = (folder / "tokenizer.json").stat()
    train_tokenizer(text_sources, tmp_path / "t", 540)
    assert (folder / "tokenizer.json").stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(EncodingError, match="there already"):
        train_tokenizer(text_sources, tmp_path / "t", 541)
    (tmp_path / "mine").mkdir()
    with pytest.raises(EncodingError, match="there already"):
        train_tokenizer(text_sources, tmp_path / "mine", 540)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "t"]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("size", [1_000_000, 50])
def test_the_limit_that_an_error_names_is_the_limit(
    model_type: str,
    size: int,
    text_sources: list[ShardReader],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(EncodingError) as caught:
        train_tokenizer(text_sources, tmp_path / "t", size, model_type=model_type)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    (problem,) = caught.value.problems
    assert problem.value == str(size)
    found = re.search(r"--vocab-size (\d+)", problem.remedy or "")
    assert found
    folder = train_tokenizer(text_sources, tmp_path / "t", int(found[1]), model_type=model_type)
    assert len(AutoTokenizer.from_pretrained(folder)) == int(found[1])


def test_all_settings_out_of_range_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncodingError) as caught:
        train_tokenizer([], tmp_path / "t", 0, temperature=2.0, max_sentences=0, seed=-1)
    places = [problem.where for problem in caught.value.problems]
    assert places == ["vocab_size", "temperature", "max_sentences", "seed"]


def test_no_text_is_an_error(write_source: Callable[..., ShardReader], tmp_path: Path) -> None:
    reader = write_source(tmp_path / "s", [make_sample("a", " \n ", {})])
    with pytest.raises(EncodingError, match="no text"):
        train_tokenizer([reader], tmp_path / "t", 540)


def test_a_damaged_shard_is_reported_as_such(
    write_source: Callable[..., ShardReader], tmp_path: Path
) -> None:
    samples = [make_sample(f"s{i}", "the river carries water", {}) for i in range(40)]
    write_source(tmp_path / "s", samples)
    tar = sorted((tmp_path / "s").glob("*.tar"))[3]
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.chmod(0o644)
    tar.write_bytes(content)
    with pytest.raises(ShardError, match=tar.name):
        train_tokenizer([ShardReader(str(tmp_path / "s"))], tmp_path / "t", 540)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_long_lines_are_cut_and_not_dropped(
    write_source: Callable[..., ShardReader], tmp_path: Path
) -> None:
    text = " ".join(["wheelwright"] * 20_000)
    reader = write_source(tmp_path / "s", [make_sample("a", text, {})])
    folder = train_tokenizer([reader], tmp_path / "t", 357)
    assert "▁wheelwright" in AutoTokenizer.from_pretrained(folder).get_vocab()


def test_small_languages_are_drawn_more_often(trained: Path) -> None:
    record = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    drawn = {name: entry["drawn"] for name, entry in record["languages"].items()}
    assert drawn["en"] < record["languages"]["en"]["samples"]
    assert drawn["hi"] > record["languages"]["hi"]["samples"]
    # The square root of 4 to 1 is 2 to 1.
    assert drawn["en"] == pytest.approx(2 * drawn["hi"], abs=2)


@given(
    sizes=st.lists(st.integers(0, 10_000), min_size=1, max_size=8),
    temperature=st.floats(0, 1),
    limit=st.integers(1, 20_000),
)
def test_draws_add_up_and_keep_the_order_of_sizes(
    sizes: list[int], temperature: float, limit: int
) -> None:
    counts = sample_counts(sizes, temperature, limit)
    assert sum(counts) == min(sum(sizes), limit)
    for size, count in zip(sizes, counts, strict=True):
        assert count == 0 or size > 0
    ordered = sorted(zip(sizes, counts, strict=True))
    for (_, fewer), (_, more) in pairwise(ordered):
        assert fewer <= more + 1
    if sum(sizes) <= limit:
        assert sample_counts(sizes, 1.0, limit) == sizes
