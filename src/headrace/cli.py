"""The ``headrace`` command: one entry point for every command, installed or from a script.

Each command is a module of :mod:`headrace.commands` that is imported only when it is used, so that
``headrace --help`` does not pay for torch.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from headrace import __version__
from headrace.errors import HeadraceError, RankLostError, UserError

COMMANDS = (
    "sample",
    "build",
    "privacy",
    "augment",
    "split",
    "index",
    "verify",
    "find",
    "show",
    "remove",
    "card",
    "preview",
    "tokenizer",
    "encode",
    "select",
    "plan",
    "check",
    "train",
    "status",
    "seen",
    "sweep",
    "search",
    "forgetting",
    "evaluate",
    "calibrate",
    "predict",
    "interpolate",
    "lexicon",
    "report",
    "submit",
    "jobs",
    "benchmark",
)
"""Every command, in the order in which a project uses them."""


def _overview() -> str:
    lines = ["usage: headrace COMMAND [options]", "", "commands:"]
    for name in COMMANDS:
        lines.append(f"  {name:<13}{_module(name).HELP}")
    lines += [
        "",
        "`headrace COMMAND --help` shows the options of a command and an example,",
        "`headrace --version` the version.",
    ]
    return "\n".join(lines)


def _module(name: str):  # type: ignore[no-untyped-def]  # a command module is typed by convention
    return importlib.import_module(f"headrace.commands.{name.replace('-', '_')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see :mod:`headrace.errors`).

    A user's mistake is printed as one line for each problem, without a traceback; so are Ctrl-C
    and an output that nobody reads any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal is too poor for a name
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        print("headrace: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the interpreter flushes once more at its end, and would complain there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that the closed pipe has ended: `headrace verify | head` failed


def _run(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help"}:
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"headrace {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(f"headrace: no command {name!r}.{hint} See `headrace --help`.", file=sys.stderr)
        return 2
    module = _module(name)
    parser = argparse.ArgumentParser(
        prog=f"headrace {name}",
        description=module.HELP,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    # options may stand between arguments, of which the last may be left out
    parsed = parser.parse_intermixed_args(rest)
    try:
        return int(module.run(parsed))
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return error.exit_code
    except RankLostError as error:
        return error.exit_code  # one rank has said so for all
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
