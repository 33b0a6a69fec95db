"""``headrace predict``: tag sentences, or answer questions, with a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError
from headrace.shards import storage
from headrace.training.sentences import FORMATS, input_format, read_sentences

if TYPE_CHECKING:
    from headrace.tasks.predictions import Prediction
    from headrace.training.inference import TrainedModel

HELP = "tag sentences, or answer multiple-choice questions, with a trained model"
EXAMPLE = (
    "headrace predict runs/x/monolingual/hi/export --input hi_test.conll --output hi.pred.conll"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "model", metavar="MODEL", help="folder in Hugging Face format, or name on the hub"
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE_OR_SHARDS",
        help="sentences or questions; .gz is read too",
    )
    parser.add_argument(
        "--format",
        default="auto",
        choices=("auto", *FORMATS),
        help="default: look at the input. Tags and labels in it are not used. text: one sentence a "
        "line. Questions are jsonl or shards",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="what the model says")
    parser.add_argument(
        "--output-format",
        choices=("conll", "jsonl"),
        help="default: jsonl for questions and names with .jsonl or .json, else conll",
    )
    parser.add_argument(
        "--language", metavar="TAG", help="BCP-47 tag (default: as the input or the model says)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="samples at once (default: 32)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of a sequence at most (default: as the model was trained)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the model is for."""
    problems = storage.output_file_problems(arguments.output, "--output")
    if arguments.batch_size < 1:
        value = str(arguments.batch_size)
        problems.append(Problem("out of range", "--batch-size", value, "Give 1 or more"))
    if problems:
        raise ConfigError(problems)

    from headrace.training.inference import task_of_model
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    try:
        chosen = input_format(arguments.input) if arguments.format == "auto" else arguments.format
    except UserError as error:
        problems += error.problems
    try:
        task = task_of_model(arguments.model)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    print(f"reading {arguments.input} as {chosen}", file=sys.stderr)
    return (_answer if task == "multiple_choice" else _tag)(arguments, chosen)


def _tag(arguments: argparse.Namespace, chosen: str) -> int:
    """Check the input to its end, tag it, and write the output when it is complete."""
    total = sum(1 for _ in read_sentences(arguments.input, chosen))
    if not total:
        raise ConfigError(Problem("no sentence in the input", arguments.input))

    from headrace.tasks.predictions import write_conll, write_json_lines
    from headrace.training.inference import load_model

    model = load_model(arguments.model, max_length=arguments.max_length)
    cut = _Cut()
    predictions = _predictions(model, chosen, total, arguments, cut)
    as_json = arguments.output_format == "jsonl" or (
        arguments.output_format is None and arguments.output.endswith((".jsonl", ".json"))
    )
    written = (write_json_lines if as_json else write_conll)(arguments.output, predictions)
    if cut.parts:
        print(
            f"warning: {counted(cut.parts, 'word')} in {counted(cut.samples, 'sentence')} beyond "
            f"{model.max_length} tokens, tagged O; raise --max-length if the model can",
            file=sys.stderr,
        )
    print(f"{counted(written, 'sentence')}: {arguments.output}")
    return EXIT_DONE


def _answer(arguments: argparse.Namespace, chosen: str) -> int:
    """Check the questions to their end, answer them, and write the output when it is complete."""
    from headrace.corpus.readers import CHOICE_FORMATS
    from headrace.training.questions import read_questions

    problems = []
    remedy = "Questions are JSON lines with context and choices, or shards"
    if chosen not in ("jsonl", "shards", *CHOICE_FORMATS):
        problems.append(Problem("the model answers questions", "--format", chosen, remedy))
    if arguments.output_format == "conll":
        what = "answers are written as JSON lines"
        problems.append(Problem(what, "--output-format", "conll", "Leave it out"))
    if problems:
        raise ConfigError(problems)
    total = sum(1 for _ in read_questions(arguments.input, chosen))
    if not total:
        raise ConfigError(Problem("no question in the input", arguments.input, remedy=remedy))

    from headrace.tasks.predictions import write_records
    from headrace.training.inference import load_model

    model = load_model(arguments.model, max_length=arguments.max_length)
    cut = _Cut()
    written = write_records(arguments.output, _answers(model, chosen, total, arguments, cut))
    if cut.samples:
        print(
            f"warning: {counted(cut.parts, 'token')} cut off in "
            f"{counted(cut.samples, 'question')} beyond {model.max_length} tokens; raise "
            "--max-length if the model can",
            file=sys.stderr,
        )
    print(f"{counted(written, 'question')}: {arguments.output}")
    return EXIT_DONE


class _Cut:
    """Words (or tokens) beyond the maximum length, and the samples that they are in."""

    def __init__(self) -> None:
        self.parts = 0
        self.samples = 0

    def add(self, parts: int) -> None:
        self.parts += parts
        self.samples += bool(parts)


def _predictions(
    model: TrainedModel, chosen: str, total: int, arguments: argparse.Namespace, cut: _Cut
) -> Iterator[Prediction]:
    from itertools import tee

    from tqdm import tqdm

    from headrace.tasks.predictions import Prediction
    from headrace.training.tagging import tag_sentences

    sentences, copies = tee(read_sentences(arguments.input, chosen))
    answers = tag_sentences(
        model, (sentence.tokens for sentence in copies), batch_size=arguments.batch_size
    )
    bar = tqdm(sentences, desc="tagging", total=total, unit=" sentences", disable=None)
    for sentence, answer in zip(bar, answers, strict=True):
        cut.add(answer.words_cut)
        yield Prediction(
            id=sentence.id,
            language=arguments.language or sentence.language or model.language or "und",
            tokens=sentence.tokens,
            tags=answer.tags,
            domain=sentence.domain,
        )


def _answers(
    model: TrainedModel, chosen: str, total: int, arguments: argparse.Namespace, cut: _Cut
) -> Iterator[dict[str, Any]]:
    from itertools import tee

    from tqdm import tqdm

    from headrace.training.answering import answer_questions
    from headrace.training.questions import read_questions

    questions, copies = tee(read_questions(arguments.input, chosen))
    answers = answer_questions(
        model,
        ((question.context, question.choices) for question in copies),
        batch_size=arguments.batch_size,
    )
    bar = tqdm(questions, desc="answering", total=total, unit=" questions", disable=None)
    for question, answer in zip(bar, answers, strict=True):
        cut.add(answer.tokens_cut)
        yield {
            "id": question.id,
            "language": arguments.language or question.language or model.language or "und",
            "answer": answer.choice,
            "choice": question.choices[answer.choice],
            "scores": list(answer.probabilities),
        }
