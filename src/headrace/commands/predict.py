"""``headrace predict``: tag sentences with a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, ConfigError, Problem
from headrace.shards import storage
from headrace.training.sentences import FORMATS, input_format, read_sentences

if TYPE_CHECKING:
    from headrace.tasks.predictions import Prediction
    from headrace.training.inference import TrainedModel

HELP = "tag sentences with a trained model"
EXAMPLE = (
    "headrace predict runs/x/monolingual/hi/export --input hi_test.conll --output hi.pred.conll"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "model", metavar="MODEL", help="folder in Hugging Face format, or name on the hub"
    )
    parser.add_argument(
        "--input", required=True, metavar="FILE_OR_SHARDS", help="sentences to tag; .gz is read too"
    )
    parser.add_argument(
        "--format",
        default="auto",
        choices=("auto", *FORMATS),
        help="default: look at the input. Tags in it are not used. text: one sentence a line",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="tagged sentences")
    parser.add_argument(
        "--output-format",
        choices=("conll", "jsonl"),
        help="default: jsonl for names with .jsonl or .json, else conll",
    )
    parser.add_argument(
        "--language", metavar="TAG", help="BCP-47 tag (default: as the input or the model says)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="sentences at once (default: 32)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of a sentence at most (default: as the model was trained)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the input to its end, tag it, and write the output when it is complete."""
    problems = storage.output_file_problems(arguments.output, "--output")
    if arguments.batch_size < 1:
        value = str(arguments.batch_size)
        problems.append(Problem("out of range", "--batch-size", value, "Give 1 or more"))
    if problems:
        raise ConfigError(problems)
    chosen = input_format(arguments.input) if arguments.format == "auto" else arguments.format
    print(f"reading {arguments.input} as {chosen}", file=sys.stderr)
    total = sum(1 for _ in read_sentences(arguments.input, chosen))
    if not total:
        raise ConfigError(Problem("no sentence in the input", arguments.input))

    from headrace.tasks.predictions import write_conll, write_json_lines
    from headrace.training.inference import load_model
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    model = load_model(arguments.model, max_length=arguments.max_length)
    cut = _Cut()
    predictions = _predictions(model, chosen, total, arguments, cut)
    as_json = arguments.output_format == "jsonl" or (
        arguments.output_format is None and arguments.output.endswith((".jsonl", ".json"))
    )
    written = (write_json_lines if as_json else write_conll)(arguments.output, predictions)
    if cut.words:
        print(
            f"warning: {counted(cut.words, 'word')} in {counted(cut.sentences, 'sentence')} beyond "
            f"{model.max_length} tokens, tagged O; raise --max-length if the model can",
            file=sys.stderr,
        )
    print(f"{counted(written, 'sentence')}: {arguments.output}")
    return EXIT_DONE


class _Cut:
    """Words that were beyond the maximum length, and the sentences that they are in."""

    def __init__(self) -> None:
        self.words = 0
        self.sentences = 0


def _predictions(
    model: TrainedModel, chosen: str, total: int, arguments: argparse.Namespace, cut: _Cut
) -> Iterator[Prediction]:
    from itertools import tee

    from tqdm import tqdm

    from headrace.tasks.predictions import Prediction
    from headrace.training.inference import tag_sentences

    sentences, copies = tee(read_sentences(arguments.input, chosen))
    answers = tag_sentences(
        model, (sentence.tokens for sentence in copies), batch_size=arguments.batch_size
    )
    bar = tqdm(sentences, desc="tagging", total=total, unit=" sentences", disable=None)
    for sentence, answer in zip(bar, answers, strict=True):
        cut.words += answer.words_cut
        cut.sentences += bool(answer.words_cut)
        yield Prediction(
            id=sentence.id,
            language=arguments.language or sentence.language or model.language or "und",
            tokens=sentence.tokens,
            tags=answer.tags,
            domain=sentence.domain,
        )
