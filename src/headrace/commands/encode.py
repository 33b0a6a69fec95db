"""``headrace encode``: make the encoded sidecars of sources, and report what was lost."""

from __future__ import annotations

import argparse

from headrace.commands.options import (
    add_shard_cache,
    named_as_options,
    shard_cache_of,
    sources_of,
)

HELP = "encode shards for training: token ids, labels, lengths (made once, then reused)"
EXAMPLE = (
    "headrace encode data/en/train data/hi/train --tokenizer data/tokenizer "
    "--labels multiconer_v2 --max-length 92"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder (URL) of shards, or of a corpus of several languages",
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR_OR_NAME",
        help="folder or hub name of a fast tokenizer",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        default="token_classification",
        help="what the samples are encoded for: a task of run configs (default: "
        "token_classification)",
    )
    parser.add_argument(
        "--labels",
        metavar="NAME",
        help="of token classification: built-in label set, label file, or discover: the types in "
        "the sources (default)",
    )
    parser.add_argument(
        "--max-length",
        type=int,
        default=128,
        metavar="N",
        help="tokens of a sequence at most, special tokens included (default: 128)",
    )
    parser.add_argument(
        "--cache",
        default=".headrace/encoded",
        metavar="DIR",
        help="local folder of the sidecars (default: .headrace/encoded)",
    )
    add_shard_cache(parser)


def run(arguments: argparse.Namespace) -> int:
    """Encode every source; problems of all of them are reported together."""
    from pydantic import ValidationError

    from headrace.config.messages import did_you_mean
    from headrace.config.object_file import section_problems
    from headrace.config.plug_ins import plug_in_names
    from headrace.config.task_sections import BUILT_IN
    from headrace.encoding.report import render_table
    from headrace.encoding.sidecar import encode_source
    from headrace.encoding.tokenizer import load_tokenizer
    from headrace.errors import EXIT_DONE, Problem, UserError
    from headrace.shards import storage
    from headrace.shards.reader import open_readers
    from headrace.tasks.registry import task_class, task_of_config
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    problems: list[Problem] = []
    try:
        cache = storage.local_folder(arguments.cache, "--cache")
    except UserError as error:
        problems += error.problems
    readers = open_readers(
        sources_of(arguments.sources), problems, shard_cache_of(arguments, problems)
    )
    tokenizer = task = None
    settings = {}
    if arguments.task == "sequence_classification":
        settings["labels"] = "score"  # what is encoded does not depend on the labels
    if arguments.labels is not None and arguments.task != "token_classification":
        remedy = "Leave it out"
        what = "what is encoded for this task does not depend on labels"
        problems.append(Problem(what, "--labels", arguments.labels, remedy))
    elif arguments.labels is not None:
        settings["labels"] = arguments.labels
    try:
        tokenizer = load_tokenizer(arguments.tokenizer)
    except UserError as error:
        problems += error.problems
    names = [*BUILT_IN, *plug_in_names()]
    if arguments.task not in names:
        remedy = did_you_mean(arguments.task, names)
        problems.append(Problem("no such task", "--task", arguments.task, remedy))
        raise UserError(problems)
    try:
        section = task_class(arguments.task).section
        config = section.model_validate({"type": arguments.task, **settings})
        task = task_of_config(config, None if problems else readers)
    except ValidationError as error:
        problems += section_problems(error, section, "--task")
    except UserError as error:
        problems += error.problems
    if tokenizer is not None and task is not None:
        try:
            with named_as_options(["max_length"]):
                task = task.for_tokenizer(tokenizer)
                task.encoder(tokenizer, arguments.max_length)
        except UserError as error:
            problems += error.problems
    if problems or task is None:
        raise UserError(problems)

    rows = []
    for reader in readers.values():
        language = str(reader.manifest.metadata.get("language") or "?")
        try:
            source = encode_source(
                reader,
                task.encoder(tokenizer, arguments.max_length),
                cache_dir=cache,
                language=language,
            )
        except UserError as error:
            problems += error.problems
            continue
        rows.append((f"{language} {reader.url}", source.report))
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    print(render_table(rows))
    incomplete = [name for name, report in rows if not report.is_complete]
    if incomplete:
        print(
            "\nNot every word is encoded (see the columns on the right). Words that are cut off "
            'have no label in training\nand count as "O" in evaluation; a larger --max-length '
            "keeps more of them."
            if arguments.task == "token_classification"
            else "\nNot every token is encoded (see the columns on the right). A larger "
            "--max-length keeps more of them."
        )
    return EXIT_DONE
