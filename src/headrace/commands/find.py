"""``headrace find``: the documents of a corpus, by filters or by SQL."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, CorpusError, Problem

if TYPE_CHECKING:
    from headrace.corpus.catalogue.catalogue import Answer, Catalogue
    from headrace.corpus.catalogue.find import Filters

HELP = "find documents of a corpus by language, source, licence, domain, or SQL"
EXAMPLE = (
    "headrace find corpus --language sw --where \"quality['words'] > 100\" --format csv\n"
    '  headrace find corpus --sql "SELECT rule, count(*) FROM filtered GROUP BY rule"'
)
_ROWS_OF_A_TABLE = 20
_LONGEST_CELL = 48
_FILTERS = ("where", "language", "source", "licence", "domain", "cluster", "columns")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("corpus", metavar="CORPUS", help="folder of a corpus")
    parser.add_argument("--where", metavar="SQL", help='condition, such as "characters > 1000"')
    parser.add_argument(
        "--language", nargs="+", default=[], metavar="LANG", help="pt finds pt-BR as well"
    )
    parser.add_argument("--source", nargs="+", default=[], metavar="ID", help="id of the source")
    parser.add_argument(
        "--licence", nargs="+", default=[], metavar="SPDX", help="licence, such as CC-BY-*"
    )
    parser.add_argument(
        "--domain", nargs="+", default=[], metavar="HOST", help="host, with those below it"
    )
    parser.add_argument("--cluster", metavar="ID", help="cluster of (near-)duplicates")
    parser.add_argument(
        "--columns", metavar="A,B", help="columns or expressions (default: the most useful ones)"
    )
    parser.add_argument(
        "--sql", metavar="SELECT", help="a question of your own, in place of the filters"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="rows at most (default: 20 in a table, else all)"
    )
    parser.add_argument(
        "--format",
        default="table",
        choices=("table", "csv", "json", "parquet"),
        help="of the answer (default: table)",
    )
    parser.add_argument("--output", metavar="FILE", help="write the answer to this file")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found, and how many there are."""
    from headrace.corpus.catalogue.catalogue import Catalogue
    from headrace.corpus.catalogue.find import COLUMNS, Filters, question

    _check_options(arguments)
    limit = arguments.limit
    if limit is None and arguments.format == "table":
        limit = _ROWS_OF_A_TABLE
    with Catalogue(arguments.corpus) as catalogue:
        if arguments.sql is not None:
            answer = catalogue.ask(_limited(arguments.sql, limit), where="--sql")
            _write(arguments, answer)
            return EXIT_DONE
        filters = Filters(
            where=arguments.where,
            languages=arguments.language,
            sources=arguments.source,
            licences=arguments.licence,
            domains=arguments.domain,
            cluster=arguments.cluster,
        )
        columns = [arguments.columns] if arguments.columns else list(COLUMNS)
        option = "--columns" if arguments.columns else "--where"
        if arguments.columns and arguments.where is not None:
            option = "--columns or --where"
        sql, values = question(filters, columns, limit)
        _write(arguments, catalogue.ask(sql, values, where=option))
        _print_counts(catalogue, filters)
    return EXIT_DONE


def _limited(sql: str, limit: int | None) -> str:
    """The question with at most so many rows in its answer."""
    if limit is None or sql.lstrip().lower().startswith("explain"):
        return sql
    return f"SELECT * FROM (\n{sql.rstrip().rstrip(';')}\n) LIMIT {limit}"


def _check_options(arguments: argparse.Namespace) -> None:
    from headrace.shards import storage

    problems = []
    given = [f"--{name}" for name in _FILTERS if getattr(arguments, name)]
    if arguments.sql is not None and given:
        remedy = "Put the conditions into the question, or leave --sql out"
        problems.append(Problem("not together with --sql", ", ".join(given), None, remedy))
    if arguments.limit is not None and arguments.limit < 1:
        problems.append(Problem("out of range", "--limit", str(arguments.limit), "Give 1 or more"))
    if arguments.format == "parquet" and arguments.output is None:
        remedy = "Name a file with --output"
        problems.append(Problem("a Parquet file is not printed", "--format", "parquet", remedy))
    if arguments.output is not None:
        problems += storage.output_file_problems(arguments.output, "--output")
    if problems:
        raise CorpusError(problems)


@contextmanager
def _file(output: str | None) -> Iterator[IO[bytes]]:
    """Where the answer goes; a file is there as a whole or not at all."""
    from headrace.shards import storage

    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with storage.open_atomically(output) as file:
            yield file


def _write(arguments: argparse.Namespace, answer: Answer) -> None:
    from headrace.corpus.catalogue import find

    if arguments.format == "table":
        text = _table(answer)
        if arguments.output is None:
            print(text, end="")
            return
        pieces: Iterator[str] = iter([text])
    elif arguments.format == "parquet":
        with _file(arguments.output) as file:
            find.write_parquet(answer, file)
        return
    else:
        pieces = find.csv_lines(answer) if arguments.format == "csv" else find.json_lines(answer)
    with _file(arguments.output) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8", "backslashreplace"))


def _table(answer: Answer) -> str:
    """The answer in aligned columns: names to the left, then numbers."""
    from headrace.corpus.catalogue.find import names_of_numbers, text_rows
    from headrace.report.table import Table

    names = list(answer.schema.names)
    are_numbers = names_of_numbers(answer.schema)
    first = next((i for i, name in enumerate(names) if name in are_numbers), len(names))
    aligned = len(names) if any(name not in are_numbers for name in names[first:]) else first
    rows = tuple(tuple(map(_short, row)) for row in text_rows(answer))
    text = Table("", tuple(names), rows, names=aligned).text()
    return text.removeprefix("\n")


def _short(cell: str) -> str:
    if len(cell) <= _LONGEST_CELL:
        return cell
    return cell[: _LONGEST_CELL - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _print_counts(catalogue: Catalogue, filters: Filters) -> None:
    condition, values = filters.condition()
    answer = catalogue.ask(
        "SELECT count(*), coalesce(sum(characters), 0)::BIGINT, coalesce(sum(bytes), 0)::BIGINT "
        f"FROM documents WHERE {condition}",
        values,
        where="--where",
    )
    (documents,), (characters,), (size,) = next(answer).to_pydict().values()
    print(
        f"{counted(documents, 'document')}, {characters:,} characters, {size:,} bytes",
        file=sys.stderr,
    )
