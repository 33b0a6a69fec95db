"""``headrace benchmark``: measure a part of Headrace side by side with what it stands beside."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import shlex
import sys
from pathlib import Path

from headrace.errors import EXIT_DONE, ConfigError, Problem

HELP = "measure a part side by side with others: interleaved rounds, medians, environment"
EXAMPLE = "headrace benchmark training --quick --json training.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="benchmark: training, stream, selection or build")
    parser.add_argument("--quick", action="store_true", help="a smaller version, about a minute")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds in place of the default")
    parser.add_argument(
        "--peers",
        metavar="DIR",
        help="environments of the peers of stream, selection or build, made by "
        "scripts/NAME_peers.sh DIR",
    )
    # DeepSpeed's launcher adds this; the rank is taken from the environment
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        "--json", metavar="FILE", help="write rows and figures; - writes them to stdout instead"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, and write the JSON file."""
    _check(arguments)
    from headrace.benchmarks import frame
    from headrace.shards import storage

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    module = importlib.import_module(f"headrace.benchmarks.{arguments.name}")
    peers = {} if arguments.peers is None else {"peers": Path(arguments.peers).resolve()}
    settings = module.settings(arguments.quick, **peers)
    rounds = arguments.rounds or settings.rounds
    facts = frame.environment(module.PACKAGES)
    with contextlib.redirect_stdout(sys.stderr):  # libraries print; standard output is for results
        found = module.measure(settings, rounds)
    if os.environ.get("RANK", "0") != "0":
        return EXIT_DONE  # one rank of a launcher speaks for all
    report = frame.report(arguments.name, _command(arguments), found, facts, rounds)
    table = frame.render(arguments.name, found, facts, rounds)
    if arguments.json == "-":
        print(table, file=sys.stderr)
        print(json.dumps(report, indent=1))
        return EXIT_DONE
    print(table)
    if arguments.json is not None:
        storage.write_atomically(
            arguments.json, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()
        )
    return EXIT_DONE


def _check(arguments: argparse.Namespace) -> None:
    """Raise one error with every wrong argument, before anything is imported or measured."""
    from headrace.benchmarks import BENCHMARKS
    from headrace.config.messages import did_you_mean
    from headrace.shards import storage

    problems = []
    if arguments.name not in BENCHMARKS:
        remedy = did_you_mean(arguments.name, BENCHMARKS)
        problems.append(Problem("no such benchmark", "NAME", arguments.name, remedy))
    if arguments.rounds is not None and arguments.rounds < 1:
        problems.append(
            Problem("out of range", "--rounds", str(arguments.rounds), "Give 1 or more")
        )
    if arguments.peers is not None and arguments.name == "training":
        problems.append(
            Problem("this benchmark has no peers", "--peers", arguments.peers, "Leave it out")
        )
    elif arguments.peers is not None and not Path(arguments.peers).is_dir():
        remedy = f"Make them with: scripts/{arguments.name}_peers.sh {arguments.peers}"
        problems.append(Problem("no such folder", "--peers", arguments.peers, remedy))
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    if problems:
        raise ConfigError(problems)


def _command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["headrace", "benchmark", arguments.name]
    if arguments.quick:
        words.append("--quick")
    if arguments.rounds is not None:
        words += ["--rounds", str(arguments.rounds)]
    if arguments.peers is not None:
        words += ["--peers", "DIR"]
    return shlex.join(words)
