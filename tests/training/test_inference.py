"""Scores and tags of trained models, against an independent computation and against a run."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from headrace.cli import main
from headrace.errors import ConfigError, LabelError
from headrace.shards import Sample, ShardWriter
from headrace.training.inference import encode_for_model, load_model, score
from headrace.training.sentences import input_format, read_sentences
from headrace.training.tagging import tag_sentences

WORDS = [
    "the",
    "river",
    "mill",
    "carries",
    "water",
    "to",
    "old",
    "stones",
    "and",
    "ghent",
    "ada",
    "bo",
]
TYPES = ("PER", "ORG", "LOC", "MISC")
TAGS = ["O", *(f"{prefix}-{type_}" for type_ in TYPES for prefix in "BI")]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def random_sentence(chance: random.Random) -> tuple[list[str], list[str]]:
    tokens, tags = [], []
    for _ in range(chance.randint(1, 6)):
        if chance.random() < 0.5:
            tokens.append(chance.choice(WORDS))
            tags.append("O")
            continue
        type_, length = chance.choice(TYPES), chance.randint(1, 3)
        tokens += chance.choices(WORDS, k=length)
        tags += [f"B-{type_}", *[f"I-{type_}"] * (length - 1)]
    return tokens, tags


@pytest.fixture(scope="module")
def sentences() -> list[tuple[list[str], list[str]]]:
    chance = random.Random(5)
    return [random_sentence(chance) for _ in range(70)]


def write_source(folder: Path, sentences: list[Any], language: str = "en") -> str:
    with ShardWriter(str(folder), samples_per_shard=25) as writer:
        for number, (tokens, tags) in enumerate(sentences):
            facts = {"id": f"s/{number}", "language": language, "tokens": tokens, "tags": tags}
            facts["subset"] = "noisy" if number % 3 == 0 else "clean"
            fields = {"txt": " ".join(tokens).encode(), "json": json.dumps(facts).encode()}
            writer.write(Sample(f"s{number}", fields))
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, sentences: list[Any]) -> str:
    return write_source(tmp_path_factory.mktemp("source"), sentences)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words split into letters, so that a word has several pieces."""
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    backend = Tokenizer(
        models.WordPiece(
            vocab={word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )


def make_model(folder: Path, tags: list[str]) -> Path:
    """A random network whose answers differ from word to word."""
    torch.manual_seed(1)
    tokenizer = make_tokenizer()
    settings = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=100,
        initializer_range=1.0,
        num_labels=len(tags),
        id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    )
    BertForTokenClassification(settings).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), TAGS)


def expected_tags(folder: Path, sentences: list[list[str]], max_length: int) -> list[list[str]]:
    """Tags as a user of Hugging Face gets them, one sentence at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForTokenClassification.from_pretrained(folder).eval()
    answers = []
    for words in sentences:
        batch = tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        )
        places = batch.word_ids(0)
        with torch.no_grad():
            logits = network(batch["input_ids"], batch["attention_mask"]).logits[0]
        tags = ["O"] * len(words)
        for word in range(len(words)):
            if word in places:
                tags[word] = network.config.id2label[int(logits[places.index(word)].argmax())]
        answers.append(tags)
    return answers


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_tags_are_those_of_hugging_face(
    model_folder: Path, sentences: list[Any], batch_size: int
) -> None:
    words = [tokens for tokens, _ in sentences]
    model = load_model(model_folder, max_length=30)
    answers = list(tag_sentences(model, words, batch_size=batch_size))
    expected = expected_tags(model_folder, words, 30)
    assert [answer.tags for answer in answers] == expected
    assert len({tag for tags in expected for tag in tags}) > 3
    cut = [sum(map(len, tokens)) > 28 for tokens in words]
    assert [answer.words_cut > 0 for answer in answers].count(True) > 5
    assert not any(
        answer.words_cut for answer, is_cut in zip(answers, cut, strict=True) if not is_cut
    )
    for answer in answers:
        assert answer.tags[len(answer.tags) - answer.words_cut :] == ["O"] * answer.words_cut


def test_scores_are_those_of_seqeval(
    model_folder: Path, source: str, sentences: list[Any], tmp_path: Path
) -> None:
    model = load_model(model_folder)
    assert model.max_length == 100
    assert model.task.label_set.name == "conll2003"
    encoded = encode_for_model(model, {"en": source}, tmp_path)
    result = score(model, encoded, batch_size=8)
    gold = [tags for _, tags in sentences]
    predicted = expected_tags(model_folder, [tokens for tokens, _ in sentences], 100)
    report = classification_report(
        gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    metrics = result.metrics["en"]
    assert metrics["micro_f1"] == pytest.approx(report["micro avg"]["f1-score"])
    assert metrics["fine_macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert 0 < metrics["micro_f1"] < 1
    assert set(metrics["subsets"]) == {"clean", "noisy"}


def test_the_order_of_the_labels_does_not_matter(
    model_folder: Path, source: str, sentences: list[Any], tmp_path: Path
) -> None:
    order = [4, 0, 8, 2, 6, 1, 3, 5, 7]
    network = AutoModelForTokenClassification.from_pretrained(model_folder)
    network.classifier.weight.data = network.classifier.weight.data[order]
    network.classifier.bias.data = network.classifier.bias.data[order]
    network.config.id2label = {place: TAGS[number] for place, number in enumerate(order)}
    network.save_pretrained(tmp_path / "other")
    make_tokenizer().save_pretrained(tmp_path / "other")
    results = []
    for folder in (model_folder, tmp_path / "other"):
        model = load_model(folder)
        encoded = encode_for_model(model, {"en": source}, tmp_path / "cache")
        results.append(score(model, encoded, batch_size=8))
    first, second = results
    assert second.loss == pytest.approx(first.loss)
    assert second.metrics["en"]["micro_f1"] == first.metrics["en"]["micro_f1"]
    first_scores, second_scores = (result.metrics["en"]["by_type"] for result in results)
    assert first_scores == second_scores


def test_labels_that_are_not_iob2_are_all_named(tmp_path: Path) -> None:
    make_model(tmp_path, ["O", "B-PER", "I-PER", "S-LOC", "LOC"])
    with pytest.raises(LabelError) as caught:
        load_model(tmp_path)
    assert [problem.value for problem in caught.value.problems] == ["S-LOC", "LOC"]
    make_model(tmp_path, ["O", "B-PER", "I-LOC"])
    with pytest.raises(LabelError) as caught:
        load_model(tmp_path)
    assert [problem.value for problem in caught.value.problems] == ["I-PER", "B-LOC"]


def test_a_model_without_a_trained_head_is_refused(model_folder: Path, tmp_path: Path) -> None:
    body = BertModel.from_pretrained(str(model_folder))
    body.config.id2label = dict(enumerate(TAGS))
    body.save_pretrained(str(tmp_path))
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"classifier\.weight"):
        load_model(tmp_path)


def test_no_more_tokens_than_the_network_has_positions(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="at most 100 tokens"):
        load_model(model_folder, max_length=101)


def test_evaluate_names_every_mistake(
    model_folder: Path, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["evaluate", str(tmp_path / "none"), "--data", f"en={source}", *cache]) == 2
    assert "no exported model here" in capsys.readouterr().err
    data = ["en", f"de={source}", f"de={source}"]
    assert main(["evaluate", str(model_folder), "--data", *data, *cache]) == 2
    errors = capsys.readouterr().err
    assert "not LANG=URL" in errors
    assert "the language is given twice (value: de)" in errors
    other = write_source(tmp_path / "other", [(["river"], ["B-River"]), (["mill"], ["B-Mill"])])
    data = [f"en={other}", f"de={tmp_path / 'nothing'}"]
    assert main(["evaluate", str(model_folder), "--data", *data, *cache]) == 2
    errors = capsys.readouterr().err
    assert "value: B-River" in errors
    assert "value: B-Mill" in errors
    assert "nothing" in errors


def test_evaluate_prints_a_table_and_writes_json(
    model_folder: Path, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.json"
    arguments = [str(model_folder), "--data", f"en={source}", "--cache", str(tmp_path)]
    arguments += ["--max-length", "20"]
    assert main(["evaluate", *arguments, "--json", str(output)]) == 0
    table = capsys.readouterr().out
    assert "Fine, clean" in table
    assert "Fine, noisy" in table
    document = json.loads(output.read_text())
    assert document["label_set"] == "conll2003"
    assert document["languages"]["en"]["encoding"]["entities_lost"] > 0
    assert main(["evaluate", *arguments, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == document


INPUTS = {
    "unlabelled.conll": (
        "multiconer",
        "# id a-1\tdomain=en\nthe _ _ _\nriver _ _\n\n# id b/2\tdomain=en\nada _ _ _\n",
    ),
    "labelled.conll": ("conll", "the O\nriver B-LOC\n\nada B-PER\n"),
    "comments.iob2": ("iob2", "# sent_id = a-1\n1\tthe\tO\n2\triver\tO\n\n1\tada\tB-PER\n"),
    "lines.jsonl": ("jsonl", '{"id": 7, "tokens": ["the", "river"]}\n\n{"text": "ada"}\n'),
    "lines.txt": ("text", "the river\n\n  ada \n"),
    "windows.text": ("text", "\ufeffthe river\r\nada\r\n"),
}
"""Files with two sentences; format and content."""


@pytest.mark.parametrize("name", INPUTS)
def test_predict_reads_every_format(
    model_folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    format, text = INPUTS[name]
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert input_format(str(path)) == format
    output = tmp_path / "out.jsonl"
    command = ["predict", str(model_folder), "--input", str(path), "--output", str(output)]
    assert main([*command, "--language", "nl"]) == 0
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["tokens"] for record in records] == [["the", "river"], ["ada"]]
    assert [record["language"] for record in records] == ["nl", "nl"]
    expected = expected_tags(model_folder, [["the", "river"], ["ada"]], 100)
    assert [record["tags"] for record in records] == expected
    assert len({record["id"] for record in records}) == 2
    if name == "unlabelled.conll":
        assert [record["id"] for record in records] == ["a-1", "b/2"]
    capsys.readouterr()


def test_predict_keeps_ids_and_order_of_shards(
    model_folder: Path, source: str, sentences: list[Any], tmp_path: Path
) -> None:
    output = tmp_path / "out.conll"
    assert main(["predict", str(model_folder), "--input", source, "--output", str(output)]) == 0
    found = list(read_sentences(str(output), "multiconer"))
    assert [sentence.id for sentence in found] == [f"s/{n}" for n in range(len(sentences))]
    assert [sentence.tokens for sentence in found] == [tokens for tokens, _ in sentences]


def test_predict_warns_of_words_that_were_cut(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    path.write_text("the river carries water\nada\n")
    command = ["predict", str(model_folder), "--input", str(path), "--output", str(output)]
    assert main([*command, "--max-length", "6"]) == 0
    assert "2 words in 1 sentence beyond 6 tokens" in capsys.readouterr().err
    tags = json.loads(output.read_text().splitlines()[0])["tags"]
    assert tags[2:] == ["O", "O"]


def test_predict_leaves_the_old_output_if_the_input_is_broken(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"text": "the river"}\n{"tokens": 3}\nnot json\n')
    output.write_text("old")
    command = ["predict", str(model_folder), "--input", str(path), "--output", str(output)]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert "in.jsonl:2" in errors
    assert "in.jsonl:3" in errors
    assert output.read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_predict_refuses_an_input_that_is_not_there(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out")
    for name, words in (("none.txt", "no such file"), ("", "has no manifest")):
        command = ["predict", str(model_folder), "--input", str(tmp_path / name)]
        assert main([*command, "--output", output]) == 2
        assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of two stages, trained in a process of its own."""
    folder = tmp_path_factory.mktemp("trained")
    chance = random.Random(9)
    data: dict[str, dict[str, str]] = {"train": {}, "validation": {}}
    for split, count in (("train", 60), ("validation", 30)):
        for language in ("en", "de"):
            words = [chance.choices(WORDS, k=chance.randint(2, 9)) for _ in range(count)]
            names = {"ghent": "B-LOC", "ada": "B-PER", "bo": "B-PER"}
            sentences = [(line, [names.get(word, "O") for word in line]) for line in words]
            url = write_source(folder / f"{language}-{split}", sentences, language)
            data[split][language] = url
    make_tokenizer().save_pretrained(folder / "tokenizer")
    network = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1}
    network |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}
    config = {
        "train_batch_size": 16,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.02}},
        "headrace": {
            "output": str(folder / "run"),
            "task": {"type": "token_classification", "labels": "conll2003", "max_length": 40},
            "model": {"config": network, "tokenizer": str(folder / "tokenizer")},
            "data": {**data, "cache_dir": str(folder / "cache")},
            "stages": [
                {"name": "together", "epochs": 3},
                {"name": "alone", "for_each": "language", "start_from": "together", "epochs": 2},
            ],
        },
    }
    path = folder / "run.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "headrace.cli", "train", "--ds_config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["together", "alone"])
def test_scores_are_those_that_the_run_recorded(
    finished_run: Path, stage: str, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"  # a run folder can be copied anywhere
    shutil.copytree(finished_run / "run", moved)
    output = tmp_path / "scores.json"
    data = [f"{language}={finished_run / f'{language}-validation'}" for language in ("en", "de")]
    options = ["--stage", stage, "--cache", str(tmp_path / "cache"), "--json", str(output)]
    assert main(["evaluate", str(moved), "--data", *data, *options]) == 0
    found = json.loads(output.read_text())["languages"]
    recorded = json.loads((moved / "results.json").read_text())["stages"]
    entries = [entry for entry in recorded if entry["stage"] == stage]
    assert len(entries) == {"together": 1, "alone": 2}[stage]
    for entry in entries:
        for language, metrics in entry["metrics"].items():
            assert found[language]["metrics"] == metrics
            assert metrics["micro_f1"] > 0
            if stage == "alone":
                loss = pytest.approx(entry["validation_loss"], rel=1e-4)
                assert found[language]["loss"] == loss


@pytest.mark.slow
def test_evaluate_a_run_names_what_it_cannot_serve(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, url = str(finished_run / "run"), str(finished_run / "de-validation")
    cache = ["--cache", str(tmp_path)]
    assert main(["evaluate", run, "--data", f"sv={url}", *cache]) == 2
    assert "no branch for this language (value: sv)" in capsys.readouterr().err
    assert main(["evaluate", run, "--data", f"sv={url}", "--branch", "de", *cache]) == 0
    assert main(["evaluate", run, "--data", f"de={url}", "--stage", "nothing", *cache]) == 2
    assert "no such stage" in capsys.readouterr().err
    assert main(["predict", run, "--input", url, "--output", str(tmp_path / "x")]) == 2
    assert "this is a run folder" in capsys.readouterr().err
