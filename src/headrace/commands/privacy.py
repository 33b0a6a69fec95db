"""``headrace privacy``: find and replace private information in a text; check the packs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.commands.options import counted, named_as_options
from headrace.errors import EXIT_DONE, EXIT_USER_ERROR, CorpusError, Problem

if TYPE_CHECKING:
    from headrace.corpus.privacy import Result

HELP = "find and replace private information in a text, check the packs that know how it looks"
EXAMPLE = "headrace privacy letter.txt --language de --mode mask"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "text",
        nargs="?",
        metavar="TEXT_OR_FILE",
        help="a text, a file with one (UTF-8), or - for standard input",
    )
    parser.add_argument("--language", metavar="LANG", help="language of the text, such as pt-BR")
    parser.add_argument(
        "--mode",
        default="mask",
        choices=("mask", "hash", "pseudonym", "drop"),
        help="what takes the place of private information (default: mask)",
    )
    parser.add_argument(
        "--key", metavar="FILE", help="secret key, for hash, pseudonym and subject keys"
    )
    parser.add_argument(
        "--make-key", metavar="FILE", help="make a key that its owner alone can read"
    )
    parser.add_argument("--packs", metavar="DIR", help="folder of packs that come to the others")
    parser.add_argument(
        "--names", action="store_true", help="look for people's names where a rule is known"
    )
    parser.add_argument(
        "--show-values", action="store_true", help="print the private values that were found"
    )
    parser.add_argument("--check-packs", action="store_true", help="run the examples of every pack")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for; exit code 2 if an example of a pack comes out otherwise."""
    _check_options(arguments)
    with named_as_options(["key", "mode", "packs"]):
        if arguments.check_packs:
            return _check_packs(arguments)
        if arguments.make_key:
            from headrace.corpus.privacy import make_key

            key = make_key(arguments.make_key)
            print(f"{arguments.make_key}: key {key.fingerprint}; keep it outside the data set")
            if arguments.text is None:
                return EXIT_DONE
        return _deidentify(arguments)


def _check_options(arguments: argparse.Namespace) -> None:
    from headrace.corpus.language import language_problems

    problems = []
    if arguments.text is None and not (arguments.check_packs or arguments.make_key):
        remedy = "Give a text or a file, --check-packs or --make-key"
        problems.append(Problem("there is nothing to do", "TEXT_OR_FILE", None, remedy))
    if arguments.text is not None and arguments.check_packs:
        remedy = "Leave one of them out"
        problems.append(Problem("not together with a text", "--check-packs", None, remedy))
    if arguments.text is not None and not arguments.check_packs:
        if arguments.language is None:
            remedy = "Say which language the text is in"
            problems.append(Problem("it is missing", "--language", None, remedy))
        else:
            problems += language_problems(arguments.language, "--language")
    if arguments.key and arguments.make_key:
        remedy = "Name the key once: --make-key to make it, --key to use it"
        problems.append(Problem("not together with --key", "--make-key", None, remedy))
    if problems:
        raise CorpusError(problems)


def _check_packs(arguments: argparse.Namespace) -> int:
    from headrace.corpus.privacy.vectors import check_packs

    outcomes = check_packs(arguments.packs)
    failures = [failure for one in outcomes for failure in one.failures]
    if arguments.json:
        packs = [
            {
                "kind": one.pack.kind,
                "code": one.pack.code,
                "name": one.pack.name,
                "detectors": len(one.pack.detectors),
                "examples": one.examples,
                "failures": [str(failure) for failure in one.failures],
            }
            for one in outcomes
        ]
        print(json.dumps({"ok": not failures, "packs": packs}, ensure_ascii=False, indent=1))
        return EXIT_USER_ERROR if failures else EXIT_DONE
    for failure in failures:
        print(failure)
    examples = sum(one.examples for one in outcomes)
    state = counted(len(failures), "failure") if failures else "ok"
    print(f"{counted(len(outcomes), 'pack')}, {counted(examples, 'example')}: {state}")
    return EXIT_USER_ERROR if failures else EXIT_DONE


def _deidentify(arguments: argparse.Namespace) -> int:
    from headrace.corpus.privacy import deidentify, find, load_key

    text = _text(arguments.text)
    key_file = arguments.key or arguments.make_key
    key = load_key(key_file) if key_file else None
    options: dict[str, Any] = {"names": arguments.names, "packs": arguments.packs}
    result = deidentify(text, arguments.language, arguments.mode, key=key, **options)
    values: list[dict[str, Any]] = []
    if arguments.show_values:
        for one in find(text, arguments.language, **options).findings:
            place = {"type": one.type, "start": one.start, "end": one.end}
            values.append({**place, "value": text[one.start : one.end]})
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        document = result.to_json()
        if arguments.show_values:
            document["values"] = values
        print(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        _print(result, values)
    return EXIT_DONE


def _print(result: Result, values: list[dict[str, Any]]) -> None:
    print(f"dropped: {result.reason}" if result.text is None else result.text.rstrip("\n"))
    found = ", ".join(f"{type_} {count}" for type_, count in sorted(result.counts.items()))
    print(f"found: {found or 'nothing'}", file=sys.stderr)
    for span in result.spans:
        print(
            f"  {span.start}-{span.end} {span.type} {span.action} "
            f"({span.detector}, score {span.score:g})",
            file=sys.stderr,
        )
    for one in values:
        print(f"  value {one['start']}-{one['end']} {one['type']}: {one['value']}", file=sys.stderr)
    for subject in result.subject_keys:
        print(f"  subject {subject}", file=sys.stderr)


def _text(word: str) -> str:
    """The text that an argument names."""
    try:
        if word == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        path = Path(word)
        if "\0" not in word and len(os.fsencode(word)) < 256 and path.exists():
            return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        remedy = "Convert the text to UTF-8"
        problem = Problem(f"not UTF-8 at byte {error.start}", _where(word), None, remedy)
        raise CorpusError(problem) from None
    except OSError as error:
        what = f"the text cannot be read: {error.strerror}"
        raise CorpusError(Problem(what, _where(word), None, "Name a file")) from None
    if "/" in word and not any(letter.isspace() for letter in word) and "://" not in word:
        remedy = "Name a file that exists, or give the text on standard input, with -"
        raise CorpusError(Problem("there is no such file", _where(word), None, remedy))
    return word


def _where(word: str) -> str:
    return "standard input" if word == "-" else "TEXT_OR_FILE"
