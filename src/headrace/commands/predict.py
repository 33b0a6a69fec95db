"""``headrace predict``: tag sentences, answer questions, or label texts, with a trained model."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from headrace.commands.predict_work import Work, carry_out
from headrace.errors import ConfigError, Problem, UserError
from headrace.shards import storage
from headrace.training.sentences import FORMATS, input_format, read_sentences

if TYPE_CHECKING:
    from headrace.tasks.calibration import Floats
    from headrace.tasks.predictions import Prediction
    from headrace.training.answering import Answer
    from headrace.training.deciding import Decision
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
        "model",
        nargs="+",
        metavar="MODEL",
        help="folder in Hugging Face format, or name on the hub; several vote",
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
        "--vote",
        choices=("majority", "probabilities"),
        help="how several models decide: by the number of votes, or by the mean of their "
        "probabilities (default: probabilities)",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="of models that tag words: write the probability of each tag and entity too (all "
        "others always write some)",
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
    if arguments.vote is not None and len(arguments.model) == 1:
        remedy = "Name two or more"
        problems.append(Problem("a vote needs several models", "--vote", arguments.vote, remedy))
    if problems:
        raise ConfigError(problems)

    from headrace.training.inference import task_of_model
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    try:
        chosen = input_format(arguments.input) if arguments.format == "auto" else arguments.format
    except UserError as error:
        problems += error.problems
    tasks = {}
    for name in arguments.model:
        try:
            tasks[name] = task_of_model(name)
        except UserError as error:
            problems += error.problems
    task = next(iter(tasks.values()), "")
    problems += [
        Problem(f"this model cannot vote with {arguments.model[0]}", name, other, "Leave it out")
        for name, other in tasks.items()
        if other != task
    ]
    if task and task not in _WORK:
        what = f"a model for {task.replace('_', ' ')} has no predictions of this kind"
        remedy = "Use transformers.pipeline with it, or score it: headrace evaluate"
        problems.append(Problem(what, "MODEL", arguments.model[0], remedy))
    if problems:
        raise UserError(problems)
    print(f"reading {arguments.input} as {chosen}", file=sys.stderr)
    work = _WORK[task](arguments, chosen)
    return carry_out(arguments, work)


def _tagging(arguments: argparse.Namespace, chosen: str) -> Work:
    from headrace.tasks.predictions import Prediction, write_conll, write_json_lines
    from headrace.tasks.token_classification import TokenClassification
    from headrace.training.deciding import tags_of
    from headrace.training.inference import check_task
    from headrace.training.tagging import tag_sentences

    _check_columns(arguments, "sentences have no columns to name")
    if chosen == "glue_tsv":
        remedy = "Give sentences: columns of words, JSON lines, plain text, or shards"
        raise ConfigError(Problem("the model tags sentences", "--format", chosen, remedy))
    as_json = arguments.output_format == "jsonl" or (
        arguments.output_format is None and arguments.output.endswith((".jsonl", ".json"))
    )

    if arguments.probabilities and not as_json:
        remedy = "Write JSON lines: --output-format jsonl"
        raise ConfigError(Problem("columns hold no probabilities", "--probabilities", None, remedy))
    several = len(arguments.model) > 1

    def language(model: TrainedModel, sentence: Sentence) -> str:
        return arguments.language or sentence.language or model.language or "und"

    def record(
        model: TrainedModel, sentence: Sentence, answer: TaggedSentence, decision: Decision | None
    ) -> Prediction:
        tags, shares = answer.tags, None
        if decision is not None:
            task = check_task(model, TokenClassification)
            tags = tags_of(task, decision, voted=several)
            if arguments.probabilities:
                shares = [
                    None if number < 0 else float(row[number])
                    for number, row in zip(decision.classes, decision.shares, strict=True)
                ]
        return Prediction(
            id=sentence.id,
            language=language(model, sentence),
            tokens=sentence.tokens,
            tags=tags,
            domain=sentence.domain,
            probabilities=shares,
        )

    return Work(
        "sentence",
        "tagging",
        lambda: read_sentences(arguments.input, chosen),
        lambda model, found: tag_sentences(
            model,
            (sentence.tokens for sentence in found),
            batch_size=arguments.batch_size,
            with_shares=several or arguments.probabilities,
        ),
        lambda answer: answer.shares,
        language,
        record,
        write_json_lines if as_json else write_conll,
        lambda answer: answer.words_cut,
        ("word", "tagged O"),
    )


def _answering(arguments: argparse.Namespace, chosen: str) -> Work:
    import numpy as np

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

    def language(model: TrainedModel, question: Question) -> str:
        return arguments.language or question.language or model.language or "und"

    def record(
        model: TrainedModel, question: Question, _answer: Answer, decision: Decision | None
    ) -> dict[str, Any]:
        assert decision is not None
        choice = int(decision.classes[0])
        return {
            "id": question.id,
            "language": language(model, question),
            "answer": choice,
            "choice": question.choices[choice],
            "scores": decision.shares[0].tolist(),
        }

    return Work(
        "question",
        "answering",
        lambda: read_questions(arguments.input, chosen),
        lambda model, found: answer_questions(
            model,
            ((question.context, question.choices) for question in found),
            batch_size=arguments.batch_size,
        ),
        lambda answer: np.array([answer.probabilities]),
        language,
        record,
        write_records,
        lambda answer: answer.tokens_cut,
        ("token", "cut off"),
    )


def _labelling(arguments: argparse.Namespace, chosen: str) -> Work:
    import numpy as np

    from headrace.corpus.readers import Columns
    from headrace.tasks.predictions import write_records
    from headrace.training.labelling import head_of, label_texts
    from headrace.training.texts import FORMATS as TEXT_FORMATS
    from headrace.training.texts import read_texts

    problems = _not_conll(arguments, "labels")
    if chosen not in TEXT_FORMATS:
        remedy = f"Give one of {', '.join(TEXT_FORMATS)}"
        problems.append(Problem("the model labels texts", "--format", chosen, remedy))
    if problems:
        raise ConfigError(problems)
    columns = Columns(arguments.text_column, arguments.pair_column)

    def record(
        _model: TrainedModel, found: FoundText, answer: LabelledText, decision: Decision | None
    ) -> dict[str, Any]:
        assert decision is not None
        facts = {"id": found.id, "language": arguments.language or found.language or "und"}
        if answer.label is None:
            return {**facts, "score": float(decision.shares[0, 0])}
        labels = list(answer.probabilities)
        shares = dict(zip(labels, decision.shares[0].tolist(), strict=True))
        return {**facts, "label": labels[int(decision.classes[0])], "probabilities": shares}

    def shares(answer: LabelledText) -> Floats:
        if answer.label is None:
            return np.array([[answer.score]], dtype=np.float64)
        return np.array([list(answer.probabilities.values())])

    def group(model: TrainedModel, _found: FoundText) -> str | None:
        head = head_of(model)
        return None if head.labels is None else head.name

    return Work(
        "text",
        "labelling",
        lambda: read_texts(arguments.input, chosen, columns),
        lambda model, found: label_texts(
            model, (one.text for one in found), batch_size=arguments.batch_size
        ),
        shares,
        group,
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
