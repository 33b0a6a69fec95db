"""The journal of a study: a file to which any number of processes append, also over NFS.

Optuna's journal is a log of operations, one JSON object a line, that every process replays.  SQLite
is of no use here: its locks do not work on NFS.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import LOCK_FILE_SUFFIX

from headrace.errors import ConfigError, Problem
from headrace.search.processes import is_gone, this_process
from headrace.shards.locks import claimed

JOURNAL_FILE = "journal.log"

optuna.logging.set_verbosity(optuna.logging.WARNING)


class JournalLock(JournalFileOpenLock):  # type: ignore[misc]  # Optuna has no types here
    """The lock of a journal, which cleans up behind processes that died under it.

    A process holds it while the file ``journal.log.lock`` is its own, made with ``O_EXCL``, which
    is atomic on NFS from version 3 on, and names the process.  The lock of one that died is broken
    at once by others of the same host, and after 30 seconds by those of other hosts.  What it left
    half written was never acknowledged, and is cut off: in place, it would make one broken line
    with what is appended next.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._file = Path(f"{journal}{LOCK_FILE_SUFFIX}")

    def acquire(self) -> bool:
        """Wait for the lock and make the journal end with a whole line."""
        self._break_if_orphaned()
        super().acquire()
        try:
            with suppress(FileNotFoundError), self._file.open("r+", encoding="utf-8") as file:
                file.write(json.dumps(this_process()))
            _cut_torn_line(self._journal)
        except BaseException:
            self.release()
            raise
        return True

    def _break_if_orphaned(self) -> None:
        """Only processes of one host break its locks here, one at a time, so flock will do."""
        if not self._is_orphaned():
            return
        with claimed(self._file.with_name(f"{self._file.name}.broken"), wait=True):
            if self._is_orphaned():
                self._file.unlink()

    def _is_orphaned(self) -> bool:
        try:
            return is_gone(json.loads(self._file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):  # free, or just taken
            return False


def open_journal(folder: Path) -> JournalStorage:
    """Open the journal of a study's folder, made where there is none.

    Raises:
        ConfigError: naming every line that is no operation, and so would stop every worker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / JOURNAL_FILE
    if path.exists():
        _check_lines(path)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _check_lines(path: Path) -> None:
    problems = []
    lines = path.read_bytes().split(b"\n")[:-1]  # behind the last line break a process may write
    for number, line in enumerate(lines, start=1):
        try:
            whole = isinstance(json.loads(line), dict)
        except ValueError:
            whole = False
        if not whole:
            problems.append(
                Problem(
                    "the journal of the study is damaged here",
                    f"{path}:{number}",
                    line[:60].decode(errors="backslashreplace"),
                    "Restore the file from a copy, or remove the line: what it says is lost",
                )
            )
    if problems:
        raise ConfigError(problems)
