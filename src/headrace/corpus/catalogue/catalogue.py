"""A corpus that is open for questions: its tables in DuckDB, which can read nothing else.

Tables: ``documents`` (the rows of ``index.parquet`` whose documents have not been removed),
``filtered`` (``filtered.parquet``), ``quarantine`` (``quarantine.jsonl``) and ``sources`` (of
``corpus.json``).  The connection has no access to files, the network or extensions, and its
settings are locked: a question can neither write nor read anything but these four tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headrace.corpus.catalogue.removed import removed_ids
from headrace.corpus.catalogue.schema import (
    CORPUS_NAME,
    FILTERED_NAME,
    FILTERED_SCHEMA,
    GOVERNANCE,
    INDEX_NAME,
    INDEX_SCHEMA,
    QUARANTINE_NAME,
)
from headrace.errors import CorpusError, MissingExtraError, Problem, ShardError
from headrace.shards import storage
from headrace.shards.filesystems import NO_SUCH_FILE, filesystem_of

if TYPE_CHECKING:
    pass

TABLES = ("documents", "filtered", "quarantine", "sources")
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("file", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
_GOVERNANCE_OF_A_SOURCE = ("licence", *GOVERNANCE)
_REBUILD = "Build the corpus again: headrace build --help"


class Catalogue:
    """The tables of a corpus, to be asked in SQL.  Use it as a context manager.

    Args:
        url: folder of the corpus, local or whatever fsspec knows.

    Raises :class:`CorpusError` if the folder holds no finished corpus, with all problems.
    """

    def __init__(self, url: str) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtraError("duckdb", "corpus", "a question to a corpus") from error
        self.url = url
        self.corpus: Mapping[str, Any] = read_corpus_file(url)
        """``corpus.json``."""
        self.folders: dict[str, str] = folders_of(self.corpus, url)
        """Language -> folder of its shards in the corpus."""
        self.removed = removed_ids(url, self.folders.values())
        """Ids of removed documents -> epoch of the tombstone."""
        documents = _table(url, INDEX_NAME, INDEX_SCHEMA, self.removed)
        filtered = _table(url, FILTERED_NAME, FILTERED_SCHEMA, self.removed)
        self._connection = duckdb.connect(":memory:", config=_SETTINGS)
        for name, table in (
            ("documents", documents),
            ("filtered", filtered),
            ("quarantine", _quarantine(url)),
            ("sources", sources_table(self.corpus)),
        ):
            self._connection.register(name, table)
        self._connection.execute("SET lock_configuration = true")

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the tables."""
        self._connection.close()

    @property
    def name(self) -> str:
        """The name of the corpus."""
        return str(self.corpus.get("name") or storage.name_of(self.url))

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of one of our own questions, whose ``?`` stand for ``values``."""
        return self._connection.execute(sql, list(values)).fetchall()

    def one(self, sql: str, values: Sequence[object] = ()) -> Any:
        """The single value of one of our own questions."""
        return self.rows(sql, values)[0][0]

    def table(self, sql: str, **tables: pa.Table) -> pa.Table:
        """The answer to one of our own questions, which may name further tables."""
        for name, table in tables.items():
            self._connection.register(name, table)
        try:
            return self._connection.sql(sql).to_arrow_table()
        finally:
            for name in tables:
                self._connection.unregister(name)

    def add(self, name: str, table: pa.Table) -> None:
        """Have a further table for our own questions."""
        self._connection.register(name, table)

    def ask(self, sql: str, values: Sequence[object] = (), *, where: str) -> Answer:
        """The answer to a question of a user: one ``SELECT`` over the tables.

        ``where`` is the option that it comes from.  Raises :class:`CorpusError` if it is no such
        statement, names what is not there, or asks for more than the tables.
        """
        import duckdb

        try:
            statements = self._connection.extract_statements(sql)
            kinds = [statement.type for statement in statements]
            if kinds not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
                what = "not one SELECT statement: a corpus is only read"
                remedy = f"Ask with SELECT … FROM {', '.join(TABLES)}"
                raise CorpusError(Problem(what, where, sql[:120], remedy))
            relation = self._connection.sql(sql, params=list(values) or None)
            return Answer(relation.to_arrow_reader(_BATCH_ROWS), where)
        except duckdb.Error as error:
            raise _sql_error(error, where) from error


_BATCH_ROWS = 10_000


class Answer:
    """The rows of an answer, a batch at a time."""

    def __init__(self, reader: pa.RecordBatchReader, where: str) -> None:
        self.schema: pa.Schema = reader.schema
        self._reader = reader
        self._where = where

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> pa.RecordBatch:
        import duckdb

        try:
            return self._reader.read_next_batch()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise _sql_error(error, self._where) from error


def _sql_error(error: Exception, where: str) -> CorpusError:
    text = " ".join(str(error).partition("\n\nLINE")[0].split())
    if "disabled" in text:
        text = "files, the network and extensions are out of reach of a question"
    return CorpusError(
        Problem(
            "the question cannot be answered",
            where,
            text[:400],
            f"Tables: {', '.join(TABLES)}; their columns: SELECT * FROM documents LIMIT 1",
        )
    )


def read_corpus_file(url: str) -> Mapping[str, Any]:
    """``corpus.json``; :class:`CorpusError` if it is not there or not what it should be."""
    where = storage.join(url, CORPUS_NAME)
    try:
        document = json.loads(storage.read_bytes(where))
    except ShardError as error:
        if error.problems[0].what == NO_SUCH_FILE:
            remedy = "Name a folder that headrace build --recipe has finished"
            raise CorpusError(Problem("no corpus is in this folder", url, None, remedy)) from error
        raise
    except (ValueError, RecursionError) as error:
        raise CorpusError(Problem("not JSON", where, str(error), _REBUILD)) from error
    if not isinstance(document, dict):
        raise CorpusError(Problem("not a JSON object", where, None, _REBUILD))
    return document


def folders_of(corpus: Mapping[str, Any], url: str) -> dict[str, str]:
    """Language -> folder of its shards in the corpus; ``CorpusError`` if it names none."""
    languages = corpus.get("languages")
    if not isinstance(languages, dict):
        where = storage.join(url, CORPUS_NAME)
        raise CorpusError(Problem("it names no languages", where, None, _REBUILD))
    return {language: str(entry["folder"]) for language, entry in languages.items()}


def _table(url: str, name: str, schema: pa.Schema, removed: Mapping[str, int]) -> Any:
    """A Parquet file as a dataset of Arrow, without the rows of removed documents."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    where = storage.join(url, name)
    if not storage.exists(where):
        raise CorpusError(Problem("it is missing", where, None, _REBUILD))
    try:
        if storage.is_local(where):
            table = ds.dataset(str(storage.local_path(where)), format="parquet")
        else:
            filesystem, path = filesystem_of(where)
            table = ds.dataset(path, filesystem=filesystem, format="parquet")
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(Problem("not a Parquet file", where, str(error), _REBUILD)) from error
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        what, remedy = "columns are missing", "Use the version of Headrace that built it"
        raise CorpusError(Problem(what, where, ", ".join(missing), remedy))
    if removed:
        table = table.filter(~pc.field("id").isin(list(removed)))
    return table


def _quarantine(url: str) -> pa.Table:
    where = storage.join(url, QUARANTINE_NAME)
    if not storage.exists(where):
        raise CorpusError(Problem("it is missing", where, None, _REBUILD))
    rows = []
    for number, line in enumerate(storage.read_bytes(where).splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append({name: row.get(name) for name in QUARANTINE_SCHEMA.names})
        except (ValueError, AttributeError) as error:
            place = f"{where}:{number}"
            raise CorpusError(Problem("not a JSON object", place, None, _REBUILD)) from error
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def sources_of(corpus: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sources of ``corpus.json`` with their governance, in the order of the recipe."""
    return list(corpus.get("sources") or ())


def sources_table(corpus: Mapping[str, Any]) -> pa.Table:
    """The sources as a table: id and what is known about its governance."""
    names = ("id", *_GOVERNANCE_OF_A_SOURCE)
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    rows = []
    for source in sources_of(corpus):
        values = {name: source.get(name) for name in names}
        rows.append({name: None if v is None else str(v) for name, v in values.items()})
    return pa.Table.from_pylist(rows, schema=schema)
