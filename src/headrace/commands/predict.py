"""``headrace predict``: tag sentences, answer questions, or label texts, with a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.counts import counted
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError
from headrace.shards import storage
from headrace.training.sentences import FORMATS, input_format, read_sentences

if TYPE_CHECKING:
    from headrace.tasks.predictions import Prediction
    from headrace.training.answering import Answer
    from headrace.training.inference import TrainedModel
    from headrace.training.labelling import LabelledText
    from headrace.training.questions import Question
    from headrace.training.sentences import Sentence
    from headrace.training.tagging import TaggedSentence
    from headrace.training.texts import FoundText

HELP = "tag sentences, answer questions, or label texts, with a trained model"
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
        help="sentences, questions or texts; .gz is read too",
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
        help="default: conll for sentences, but jsonl for names with .jsonl or .json, and for all "
        "else",
    )
    parser.add_argument(
        "--language", metavar="TAG", help="BCP-47 tag (default: as the input or the model says)"
    )
    parser.add_argument(
        "--head", metavar="NAME", help="head of a sequence classifier that has several"
    )
    parser.add_argument(
        "--text-column", metavar="NAME", help="column of the text to label (default: usual names)"
    )
    parser.add_argument("--pair-column", metavar="NAME", help="column of the second text")
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
    if arguments.pair_column is not None and arguments.text_column is None:
        remedy = "Give --text-column too"
        what = "the first text is not named"
        problems.append(Problem(what, "--pair-column", arguments.pair_column, remedy))
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
    work = _WORK[task](arguments, chosen)
    return _carry_out(arguments, work)


@dataclass(frozen=True)
class _Work:
    """What is done with the inputs of one task."""

    noun: str
    """What an input is called."""
    doing: str
    """Of the progress bar."""
    read: Callable[[], Iterator[Any]]
    answer: Callable[[TrainedModel, Iterable[Any]], Iterator[Any]]
    record: Callable[[TrainedModel, Any, Any], Any]
    """Model, input and answer -> what is written."""
    write: Callable[[str, Iterable[Any]], int]
    cut: Callable[[Any], int]
    """Answer -> parts of the input beyond the maximum length."""
    cut_parts: tuple[str, str]
    """What is cut off, and what became of it."""


def _carry_out(arguments: argparse.Namespace, work: _Work) -> int:
    """Check the input to its end, compute, and write the output when it is complete."""
    total = sum(1 for _ in work.read())
    if not total:
        raise ConfigError(Problem(f"no {work.noun} in the input", arguments.input))

    from itertools import tee

    from tqdm import tqdm

    from headrace.training.inference import load_model

    model = load_model(arguments.model, max_length=arguments.max_length, head=arguments.head)
    lost: list[int] = []
    inputs, copies = tee(work.read())
    answers = work.answer(model, copies)

    def records() -> Iterator[Any]:
        bar = tqdm(inputs, work.doing, total, unit=f" {work.noun}s", disable=None)
        for found, answer in zip(bar, answers, strict=True):
            lost.append(work.cut(answer))
            yield work.record(model, found, answer)

    written = work.write(arguments.output, records())
    if any(lost):
        part, became = work.cut_parts
        samples = sum(map(bool, lost))
        print(
            f"warning: {counted(sum(lost), part)} in {counted(samples, work.noun)} beyond "
            f"{model.max_length} tokens, {became}; raise --max-length if the model can",
            file=sys.stderr,
        )
    print(f"{counted(written, work.noun)}: {arguments.output}")
    return EXIT_DONE


def _tagging(arguments: argparse.Namespace, chosen: str) -> _Work:
    from headrace.tasks.predictions import Prediction, write_conll, write_json_lines
    from headrace.training.tagging import tag_sentences

    _check_columns(arguments, "sentences have no columns to name")
    if chosen == "glue_tsv":
        remedy = "Give sentences: columns of words, JSON lines, plain text, or shards"
        raise ConfigError(Problem("the model tags sentences", "--format", chosen, remedy))
    as_json = arguments.output_format == "jsonl" or (
        arguments.output_format is None and arguments.output.endswith((".jsonl", ".json"))
    )

    def record(model: TrainedModel, sentence: Sentence, answer: TaggedSentence) -> Prediction:
        return Prediction(
            id=sentence.id,
            language=arguments.language or sentence.language or model.language or "und",
            tokens=sentence.tokens,
            tags=answer.tags,
            domain=sentence.domain,
        )

    return _Work(
        "sentence",
        "tagging",
        lambda: read_sentences(arguments.input, chosen),
        lambda model, found: tag_sentences(
            model, (sentence.tokens for sentence in found), batch_size=arguments.batch_size
        ),
        record,
        write_json_lines if as_json else write_conll,
        lambda answer: answer.words_cut,
        ("word", "tagged O"),
    )


def _answering(arguments: argparse.Namespace, chosen: str) -> _Work:
    from headrace.corpus.readers import CHOICE_FORMATS
    from headrace.tasks.predictions import write_records
    from headrace.training.answering import answer_questions
    from headrace.training.questions import read_questions

    problems = _not_conll(arguments, "answers")
    remedy = "Questions are JSON lines with context and choices, or shards"
    if chosen not in ("jsonl", "shards", *CHOICE_FORMATS):
        problems.append(Problem("the model answers questions", "--format", chosen, remedy))
    if problems:
        raise ConfigError(problems)
    _check_columns(arguments, "questions have no columns to name")

    def record(model: TrainedModel, question: Question, answer: Answer) -> dict[str, Any]:
        return {
            "id": question.id,
            "language": arguments.language or question.language or model.language or "und",
            "answer": answer.choice,
            "choice": question.choices[answer.choice],
            "scores": list(answer.probabilities),
        }

    return _Work(
        "question",
        "answering",
        lambda: read_questions(arguments.input, chosen),
        lambda model, found: answer_questions(
            model,
            ((question.context, question.choices) for question in found),
            batch_size=arguments.batch_size,
        ),
        record,
        write_records,
        lambda answer: answer.tokens_cut,
        ("token", "cut off"),
    )


def _labelling(arguments: argparse.Namespace, chosen: str) -> _Work:
    from headrace.corpus.readers import Columns
    from headrace.tasks.predictions import write_records
    from headrace.training.labelling import label_texts
    from headrace.training.texts import FORMATS as TEXT_FORMATS
    from headrace.training.texts import read_texts

    problems = _not_conll(arguments, "labels")
    if chosen not in TEXT_FORMATS:
        remedy = f"Give one of {', '.join(TEXT_FORMATS)}"
        problems.append(Problem("the model labels texts", "--format", chosen, remedy))
    if problems:
        raise ConfigError(problems)
    columns = Columns(arguments.text_column, arguments.pair_column)

    def record(_model: TrainedModel, found: FoundText, answer: LabelledText) -> dict[str, Any]:
        facts = {"id": found.id, "language": arguments.language or found.language or "und"}
        if answer.label is None:
            return {**facts, "score": answer.score}
        return {**facts, "label": answer.label, "probabilities": dict(answer.probabilities)}

    return _Work(
        "text",
        "labelling",
        lambda: read_texts(arguments.input, chosen, columns),
        lambda model, found: label_texts(
            model, (one.text for one in found), batch_size=arguments.batch_size
        ),
        record,
        write_records,
        lambda answer: answer.tokens_cut,
        ("token", "cut off"),
    )


_WORK = {
    "token_classification": _tagging,
    "multiple_choice": _answering,
    "sequence_classification": _labelling,
}


def _not_conll(arguments: argparse.Namespace, what: str) -> list[Problem]:
    if arguments.output_format != "conll":
        return []
    what = f"{what} are written as JSON lines"
    return [Problem(what, "--output-format", "conll", "Leave it out")]


def _check_columns(arguments: argparse.Namespace, what: str) -> None:
    if arguments.text_column is not None:
        value = arguments.text_column
        raise ConfigError(Problem(what, "--text-column", value, "Leave it out"))
