"""Votes, calibration and error analysis of models, against computations by hand."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score
from sklearn.metrics import log_loss
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
)

from headrace.cli import main
from headrace.config import load_run_config
from headrace.shards import Sample, ShardReader, ShardWriter
from headrace.training.data import open_data
from headrace.training.export import write_export
from headrace.training.model import new_model

WORDS = ["the", "river", "mill", "carries", "water", "to", "old", "ghent", "ada", "bo"]
TYPES = ("PER", "ORG", "LOC", "MISC")
TAGS = ["O", *(f"{prefix}-{type_}" for type_ in TYPES for prefix in "BI")]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LENGTH = 24
"""Tokens of a sentence at most: long ones are cut by models that read letters."""


def make_tokenizer(*, letters: bool) -> PreTrainedTokenizerFast:
    """Whole words, or words in letters."""
    if letters:
        alphabet = sorted({letter for word in WORDS for letter in word})
        pieces = [*SPECIAL, *alphabet, *(f"##{letter}" for letter in alphabet)]
        model: Any = models.WordPiece(vocab={p: n for n, p in enumerate(pieces)}, unk_token="[UNK]")
    else:
        words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
        model = models.WordLevel(vocab=words, unk_token="[UNK]")
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )


Sentences = list[tuple[list[str], list[str]]]


def make_model(
    folder: Path, seed: int, *, letters: bool, tags: list[str] = TAGS, learn: Sentences = ()
) -> str:
    """A small network that has learned a little, and is far too sure of it."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(letters=letters)
    settings = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=LENGTH, initializer_range=0.5,
        num_labels=len(tags), id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    )  # fmt: skip
    network = BertForTokenClassification(settings)
    if learn:
        words = [tokens for tokens, _ in learn]
        batch = tokenizer(
            words, is_split_into_words=True, truncation=True, padding=True, max_length=LENGTH,
            return_tensors="pt",
        )  # fmt: skip
        labels = torch.full(batch["input_ids"].shape, -100)
        for row, (_, own) in enumerate(learn):
            for place, word in enumerate(batch.word_ids(row)):
                if word is not None and word != batch.word_ids(row)[place - 1]:
                    labels[row, place] = tags.index(own[word])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(50):
            network(batch["input_ids"], batch["attention_mask"], labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        network.classifier.weight.data *= 4
    network.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    """Types follow from words, mostly."""
    chance = random.Random(5)
    found = []
    for _ in range(60):
        tokens, tags = [], []
        for _ in range(chance.randint(1, 4)):
            words = chance.choices(WORDS[1:], k=chance.randint(1, 2))
            type_ = TYPES[WORDS.index(words[0]) % 4 if chance.random() < 0.8 else 0]
            tokens += ["the", *words]
            tags += ["O", f"B-{type_}", *[f"I-{type_}"] * (len(words) - 1)]
        found.append((tokens, tags))
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, sentences: list[Any]) -> str:
    folder = tmp_path_factory.mktemp("source")
    with ShardWriter(str(folder), samples_per_shard=25) as writer:
        for number, (tokens, tags) in enumerate(sentences):
            facts = {"id": f"s/{number}", "language": "en", "tokens": tokens, "tags": tags}
            facts["subset"] = "noisy" if number % 3 == 0 else "clean"
            fields = {"txt": " ".join(tokens).encode(), "json": json.dumps(facts).encode()}
            writer.write(Sample(f"s{number}", fields))
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, sentences: Sentences) -> list[str]:
    """Three models, of which one reads whole words and the others letters."""
    folder = tmp_path_factory.mktemp("models")
    return [
        make_model(folder / str(n), seed=n, letters=n != 1, learn=sentences[:20]) for n in range(3)
    ]


def plain_logits(folder: str, sentences: list[list[str]]) -> list[list[np.ndarray | None]]:
    """What a user of Hugging Face gets for the first piece of each word, one by one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForTokenClassification.from_pretrained(folder).eval()
    answers = []
    for words in sentences:
        batch = tokenizer(
            words, is_split_into_words=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        places = batch.word_ids(0)
        with torch.no_grad():
            logits = network(batch["input_ids"], batch["attention_mask"]).logits[0].double().numpy()
        answers.append(
            [logits[places.index(w)] if w in places else None for w in range(len(words))]
        )
    return answers


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


@pytest.fixture(scope="module")
def logits(folders: list[str], sentences: list[Any]) -> list[list[list[np.ndarray | None]]]:
    return [plain_logits(folder, [tokens for tokens, _ in sentences]) for folder in folders]


def voted_by_hand(logits: list[Any], vote: str) -> list[list[str]]:
    """The rule in its own words: who sees a word votes; ties go to the first model."""
    sentences = []
    for number in range(len(logits[0])):
        tags = []
        for word in range(len(logits[0][number])):
            seen = [one[number][word] for one in logits if one[number][word] is not None]
            if not seen:
                tags.append("O")
            elif vote == "probabilities":
                tags.append(TAGS[int(sum(map(softmax, seen)).argmax())])
            else:
                votes = [TAGS[int(one.argmax())] for one in seen]
                most = max(Counter(votes).values())
                tags.append(next(tag for tag in votes if Counter(votes)[tag] == most))
        sentences.append(tags)
    return sentences


@pytest.mark.parametrize("vote", ["majority", "probabilities"])
def test_a_vote_is_that_by_hand(
    folders: list[str], source: str, sentences: list[Any], logits: list[Any], vote: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    expected = voted_by_hand(logits, vote)
    output, scores = tmp_path / "out.jsonl", tmp_path / "scores.json"
    shared = [*folders, "--batch-size", "7", "--vote", vote]
    command = ["evaluate", *shared, "--data", f"en={source}", "--cache", str(tmp_path / "cache")]
    assert main([*command, "--json", str(scores)]) == 0
    assert f"Vote ({vote})" in capsys.readouterr().out
    entry = json.loads(scores.read_text())["languages"]["en"]
    gold = [tags for _, tags in sentences]
    # the lenient reading of the raw votes is what well-formed tags are made of
    assert entry["metrics"]["micro_f1"] == pytest.approx(f1_score(gold, expected))
    assert entry["model"] == folders
    for member, one in zip(entry["members"], logits, strict=True):
        alone = [[TAGS[int(s.argmax())] if s is not None else "O" for s in row] for row in one]
        lenient = f1_score(gold, alone)
        assert member["metrics"]["lenient"]["micro_f1"] == pytest.approx(lenient)
    assert main(["predict", *shared, "--input", source, "--output", str(output)]) == 0
    found = [json.loads(line)["tags"] for line in output.read_text().splitlines()]
    assert len({tag for tags in expected for tag in tags}) > 4
    repaired = 0
    for ours, raw in zip(found, expected, strict=True):
        for place, (tag, plain) in enumerate(zip(ours, raw, strict=True)):
            follows = place and ours[place - 1][2:] == plain[2:] and ours[place - 1] != "O"
            wanted = f"B-{plain[2:]}" if plain.startswith("I-") and not follows else plain
            assert tag == wanted
            repaired += tag != plain
    assert repaired > 0


def test_who_cannot_see_a_word_has_no_vote(logits: list[Any]) -> None:
    """The models of letters are cut, the one of words sees all: the test above has such words."""
    cut = [row for one in logits[::2] for row in one if any(scores is None for scores in row)]
    assert len(cut) > 10
    assert not any(scores is None for row in logits[1] for scores in row)


def test_probabilities_of_tags_and_entities(
    folders: list[str], source: str, logits: list[Any], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    command = ["predict", folders[0], "--input", source, "--output", str(output)]
    assert main([*command, "--probabilities"]) == 0
    entities = 0
    for line, row in zip(output.read_text().splitlines(), logits[0], strict=True):
        found = json.loads(line)
        expected = [None if one is None else softmax(one).max() for one in row]
        assert found["probabilities"] == pytest.approx(expected, abs=1e-5)
        for entity in found["entities"]:
            own = found["probabilities"][entity["start"] : entity["end"]]
            assert entity["probability"] == pytest.approx(math.prod(own))
            entities += 1
    assert entities > 10


def test_columns_hold_no_probabilities(
    folders: list[str], source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", folders[0], "--input", source, "--output", str(tmp_path / "out.conll")]
    assert main([*command, "--probabilities"]) == 2
    assert "--probabilities" in capsys.readouterr().err


@pytest.fixture
def calibrated(folders: list[str], source: str, tmp_path: Path) -> Path:
    """A copy of a model, calibrated on the source."""
    folder = tmp_path / "calibrated"
    shutil.copytree(folders[0], folder)
    data = ["--data", f"en={source}", "--cache", str(tmp_path / "cache")]
    assert main(["calibrate", str(folder), *data]) == 0
    return folder


def test_a_calibrated_model_is_used_by_its_temperature(
    calibrated: Path, source: str, sentences: list[Any], logits: list[Any], tmp_path: Path
) -> None:
    document = json.loads((calibrated / "calibration.json").read_text())
    temperature = document["groups"]["en"]["temperature"]
    assert temperature == pytest.approx(document["temperature"])
    assert temperature > 1.2
    seen, gold = [], []
    for row, (_, tags) in zip(logits[0], sentences, strict=True):
        for scores, tag in zip(row, tags, strict=True):
            if scores is not None:
                seen.append(scores)
                gold.append(TAGS.index(tag))
    labels = list(range(len(TAGS)))
    losses = {
        value: log_loss(gold, [softmax(one / value) for one in seen], labels=labels)
        for value in (1.0, temperature, 1.02 * temperature, 0.98 * temperature)
    }
    loss = document["negative_log_likelihood"]
    assert loss["before"] == pytest.approx(losses[1.0], abs=1e-4)
    assert loss["after"] == pytest.approx(losses[temperature], abs=1e-4)
    assert min(losses.values()) == losses[temperature]
    output = tmp_path / "out.jsonl"
    command = ["predict", str(calibrated), "--input", source, "--output", str(output)]
    assert main([*command, "--probabilities"]) == 0
    for line, row in zip(output.read_text().splitlines(), logits[0], strict=True):
        expected = [None if one is None else softmax(one / temperature).max() for one in row]
        assert json.loads(line)["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_reliability_of_both(
    calibrated: Path, source: str, sentences: list[Any], logits: list[Any], tmp_path: Path
) -> None:
    pages = tmp_path / "pages"
    command = ["evaluate", str(calibrated), "--data", f"en={source}", "--calibration", str(pages)]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    found = json.loads((pages / "reliability.json").read_text())["languages"]["en"]
    raw, mended = found["raw"], found["calibrated"]
    assert raw["items"]["items"] == sum(one is not None for row in logits[0] for one in row)
    for name in ("expected_calibration_error", "negative_log_likelihood", "brier"):
        assert mended["items"][name] < raw["items"][name]
    assert mended["items"]["accuracy"] == raw["items"]["accuracy"]
    parts = [subset["items"]["items"] for subset in raw["subsets"].values()]
    assert sum(parts) == raw["items"]["items"]
    assert raw["entities"]["items"] > 10
    page = (pages / "reliability.html").read_text()
    assert "<svg" in page
    assert "with its temperature" in page
    assert "<script" not in page


def test_a_broken_calibration_is_refused(
    calibrated: Path, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ('{"version": 1, "temperature": 0, "groups": {}}', "[]", "{", '{"version": 9}'):
        (calibrated / "calibration.json").write_text(text)
        command = ["predict", str(calibrated), "--input", source, "--probabilities"]
        assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 2
        assert "headrace calibrate" in capsys.readouterr().err


def test_errors_by_kind(
    folders: list[str], source: str, sentences: list[Any], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "errors"
    data = ["--data", f"en={source}", f"de={source}", "--cache", str(tmp_path / "cache")]
    command = ["evaluate", folders[0], *data, "--errors", str(out)]
    assert main([*command, "--train", f"en={source}", "--json", str(tmp_path / "s.json")]) == 0
    assert "errors.html" in capsys.readouterr().out
    document = json.loads((out / "errors.json").read_text())
    scores = json.loads((tmp_path / "s.json").read_text())["languages"]["en"]["metrics"]
    english = document["languages"]["en"]
    for type_, row in scores["by_type"].items():
        assert {name: english["by_type"][type_][name] for name in row} == row
    strict = english["schemes"]["strict"]
    assert strict["f1"] == pytest.approx(scores["micro_f1"])
    assert set(english["subsets"]) == {"clean", "noisy"}
    assert english["by_seen"]["seen"]["gold"] == sum(
        tag.startswith("B-") for _, tags in sentences for tag in tags
    )
    assert "by_seen" not in document["languages"]["de"]
    assert document["all"]["kinds"] == {kind: 2 * count for kind, count in english["kinds"].items()}
    page = (out / "errors.html").read_text()
    text = page + (out / "errors.json").read_text()
    assert "examples" not in document
    # no text of the data without being asked
    assert not any(f" {word} " in text for word in ("carries", "ghent", "ada"))
    assert main([*command, "--examples", "2"]) == 0
    document = json.loads((out / "errors.json").read_text())
    kinds = Counter(example["kind"] for example in document["examples"]["en"])
    assert max(kinds.values()) == 2
    assert len(kinds) >= 3
    assert document["examples"]["en"][0]["text"] in (out / "errors.html").read_text()


def test_errors_of_a_vote(folders: list[str], source: str, tmp_path: Path) -> None:
    out, scores = tmp_path / "errors", tmp_path / "s.json"
    data = ["--data", f"en={source}", "--cache", str(tmp_path / "cache")]
    assert main(["evaluate", *folders, *data, "--errors", str(out), "--json", str(scores)]) == 0
    errors = json.loads((out / "errors.json").read_text())
    metrics = json.loads(scores.read_text())["languages"]["en"]["metrics"]
    strict = errors["languages"]["en"]["schemes"]["strict"]
    assert strict["f1"] == pytest.approx(metrics["micro_f1"])
    assert errors["model"] == folders


def test_mistakes_are_named_all_at_once(
    folders: list[str], source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", f"en={source}", "--cache", str(tmp_path / "cache")]
    wrong = ["--train", f"hi={source}", "--examples", "3", "--vote", "majority"]
    assert main(["evaluate", folders[0], *data, *wrong]) == 2
    errors = capsys.readouterr().err
    assert all(f"error: {option}: " in errors for option in ("--train", "--examples", "--vote"))
    majority = ["--vote", "majority", "--calibration", str(tmp_path / "c")]
    assert main(["evaluate", *folders, *data, *majority]) == 2
    assert "a majority has no probabilities" in capsys.readouterr().err
    other = make_model(tmp_path / "other", seed=1, letters=True, tags=[*TAGS, "B-X", "I-X"])
    assert main(["evaluate", folders[0], other, *data]) == 2
    assert "its tags are others" in capsys.readouterr().err
    predict = ["predict", folders[0], other, "--input", source, "--output", str(tmp_path / "o")]
    assert main(predict) == 2
    assert "its tags are others" in capsys.readouterr().err
    assert main(["calibrate", "some/name", *data]) == 2
    assert "no model folder here" in capsys.readouterr().err


def exports(corpus: Any, folder: Path, seeds: tuple[int, ...], **changes: Any) -> list[str]:
    """Untrained models of a corpus's run config, as a run exports them."""
    path = corpus.write_config(folder / "new.json", folder / "new", **changes)
    config = load_run_config(path)
    opened = open_data(config)
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        network = new_model(config.headrace.model, opened.task, opened.tokenizer)
        facts = {
            **{"run": "new", "stage": "a", "branch": "all", "step": 0, "languages": []},
            **{"metrics": {}, "config_fingerprint": "", "data_fingerprint": ""},
            **{"task": opened.task.name, **opened.task.facts(), "max_length": 20},
        }
        export = folder / f"export-{seed}"
        write_export(export, network, network.state_dict(), opened.tokenizer, facts, opened.task)
        found.append(str(export))
    return found


def predicted(models: list[str], source: str, output: Path, *options: str) -> list[dict[str, Any]]:
    command = ["predict", *models, "--input", source, "--output", str(output), *options]
    assert main(command) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def evaluated(models: list[str], data: str, folder: Path, *options: str) -> dict[str, Any]:
    output = folder / "scores.json"
    command = ["evaluate", *models, "--data", data, "--cache", str(folder / "cache"), *options]
    assert main([*command, "--json", str(output)]) == 0
    entries = json.loads(output.read_text())["languages"]
    found: dict[str, Any] = next(iter(entries.values()))
    return found


def test_votes_and_calibration_of_questions(choice_corpus: Any, tmp_path: Path) -> None:
    models = exports(choice_corpus, tmp_path, (1, 2, 3))
    source = choice_corpus.source("dev")
    samples = list(ShardReader(source))
    alone = [predicted([model], source, tmp_path / "one.jsonl") for model in models]
    for vote in ("majority", "probabilities"):
        answers = []
        for own in zip(*alone, strict=True):
            votes = [one["answer"] for one in own]
            if vote == "majority":
                most = max(Counter(votes).values())
                answers.append(next(one for one in votes if Counter(votes)[one] == most))
            else:
                answers.append(int(np.mean([one["scores"] for one in own], axis=0).argmax()))
        found = predicted(models, source, tmp_path / "all.jsonl", "--vote", vote)
        assert [one["answer"] for one in found] == answers
        right = [
            sample.metadata["label"] == answer
            for sample, answer in zip(samples, answers, strict=True)
        ]
        entry = evaluated(models, f"en={source}", tmp_path, "--vote", vote)
        assert entry["metrics"]["accuracy"] == pytest.approx(np.mean(right))
    refused = ["evaluate", models[0], "--data", f"en={source}", "--errors", str(tmp_path / "e")]
    assert main(refused) == 2
    assert not (tmp_path / "e").exists()
    loss = -np.mean(
        [
            np.log(np.mean([one["scores"] for one in own], axis=0)[sample.metadata["label"]])
            for sample, own in zip(samples, zip(*alone, strict=True), strict=True)
        ]
    )
    assert entry["loss"] == pytest.approx(loss, abs=1e-5)
    # calibration: probabilities change, answers do not
    data = ["--data", f"en={source}", "--cache", str(tmp_path / "cache")]
    assert main(["calibrate", models[0], *data]) == 0
    document = json.loads((Path(models[0]) / "calibration.json").read_text())
    after = predicted(models[:1], source, tmp_path / "one.jsonl")
    mended = []
    for one, before, sample in zip(after, alone[0], samples, strict=True):
        assert one["answer"] == before["answer"]
        expected = np.array(before["scores"]) ** (1 / document["temperature"])
        assert one["scores"] == pytest.approx(expected / expected.sum())
        mended.append(-np.log(one["scores"][sample.metadata["label"]]))
    assert np.mean(mended) == pytest.approx(document["negative_log_likelihood"]["after"], abs=1e-5)


def test_votes_and_calibration_of_labels_and_scores(
    label_corpus: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = exports(label_corpus, tmp_path, (1, 2, 3))
    source = label_corpus.source("weather", "dev")
    options = ("--head", "weather")
    alone = [predicted([model], source, tmp_path / "one.jsonl", *options) for model in models]
    answers = []
    for own in zip(*alone, strict=True):
        total = Counter()
        for one in own:
            total.update(one["probabilities"])
        answers.append(total.most_common(1)[0][0])
    found = predicted(models, source, tmp_path / "all.jsonl", *options)
    assert [one["label"] for one in found] == answers
    labels = [sample["label"] for sample in label_corpus.samples("weather", "dev")]
    entry = evaluated(models, f"weather={source}", tmp_path)
    right = [one == other for one, other in zip(answers, labels, strict=True)]
    assert entry["metrics"]["accuracy"] == pytest.approx(np.mean(right))
    # scores: their mean
    wetness = label_corpus.source("wetness", "dev")
    alone = [
        predicted([model], wetness, tmp_path / "w.jsonl", "--head", "wetness") for model in models
    ]
    found = predicted(models, wetness, tmp_path / "w.jsonl", "--head", "wetness")
    means = [np.mean([one["score"] for one in own]) for own in zip(*alone, strict=True)]
    assert [one["score"] for one in found] == pytest.approx(means)
    entry = evaluated(models, f"wetness={wetness}", tmp_path)
    gold = [sample["score"] for sample in label_corpus.samples("wetness", "dev")]
    error = np.mean((np.array(means) - gold) ** 2)
    assert entry["metrics"]["mean_squared_error"] == pytest.approx(error)
    assert entry["loss"] == pytest.approx(error)
    # each head has a temperature; a score has none
    sources = {"weather": source, "pairs": label_corpus.source("pairs", "dev"), "wetness": wetness}
    data = ["--data", *(f"{name}={url}" for name, url in sources.items())]
    data += ["--cache", str(tmp_path / "cache")]
    assert main(["calibrate", models[0], *data]) == 0
    document = json.loads((Path(models[0]) / "calibration.json").read_text())
    assert set(document["groups"]) <= {"weather", "pairs"}
    pages = ["--calibration", str(tmp_path / "pages")]
    assert main(["evaluate", models[0], *data, *pages]) == 0
    found = json.loads((tmp_path / "pages" / "reliability.json").read_text())["languages"]
    assert set(found) == {"weather", "pairs"}
    capsys.readouterr()
    only = ["--data", f"wetness={wetness}", "--cache", str(tmp_path / "cache")]
    assert main(["calibrate", models[1], *only]) == 2
    assert "scores have none" in capsys.readouterr().err
