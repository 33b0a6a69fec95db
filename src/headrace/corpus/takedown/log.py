"""``takedowns.jsonl``: what was removed when and why, each line bound to the one before it.

A line has the hash of the line before and a code over all of itself: BLAKE2b with the key of the
corpus, so that nobody without it can add, change or drop a line; without a key it is a plain hash,
which shows damage but not forgery.  Lines never hold a subject in clear, nor text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

from headrace.corpus.privacy import Key
from headrace.errors import CorpusError, Problem
from headrace.shards import storage

LOG_NAME = "takedowns.jsonl"
_FIRST = "0" * 64


@dataclass(frozen=True)
class Log:
    """The lines of a log that was read."""

    lines: tuple[Mapping[str, Any], ...]
    last: str
    """Hash of the last line; zeros where there is none."""
    unsigned: int
    """Lines whose code could not be checked: made with a key that was not given, or without."""


def read_log(url: str, key: Key | None = None) -> Log:
    """Read and check the log of a corpus, from its first line on.

    Raises :class:`CorpusError` naming the first line that is not the one that was written there.
    """
    where = storage.join(url, LOG_NAME)
    if not storage.exists(where):
        return Log((), _FIRST, 0)
    lines: list[Mapping[str, Any]] = []
    last, unsigned = _FIRST, 0
    for number, text in enumerate(storage.read_bytes(where).splitlines(), start=1):
        line = _parsed(text)
        made_with = None if line is None else line.get("key")
        known = made_with is None or (key is not None and key.fingerprint == made_with)
        sound = (
            line is not None
            and line.get("number") == number
            and line.get("previous") == last
            and (not known or line.get("code") == _code(line, key if made_with else None))
        )
        if not sound or line is None:
            raise CorpusError(
                Problem(
                    "the log of takedowns was changed: this line is not what was written here",
                    f"{where}:{number}",
                    remedy="Bring it back from a copy of the corpus",
                )
            )
        unsigned += made_with is None or not known
        lines.append(line)
        last = blake2b(text, digest_size=32).hexdigest()
    return Log(tuple(lines), last, unsigned)


def append_to_log(url: str, entry: Mapping[str, Any], key: Key | None) -> Mapping[str, Any]:
    """Add a line; the whole file is replaced atomically.  The caller has the lock of the corpus.

    Raises as :func:`read_log`.
    """
    log = read_log(url, key)
    line: dict[str, Any] = {
        "number": len(log.lines) + 1,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **entry,
        "previous": log.last,
        "key": None if key is None else key.fingerprint,
    }
    line["code"] = _code(line, key)
    where = storage.join(url, LOG_NAME)
    before = storage.read_bytes(where) if storage.exists(where) else b""
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    storage.write_atomically(where, before + text.encode() + b"\n")
    return line


def _code(line: Mapping[str, Any], key: Key | None) -> str:
    content = {name: value for name, value in line.items() if name != "code"}
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    if key is not None:
        return key.digest("takedown log", text, 32).hex()
    return blake2b(text.encode(), digest_size=32).hexdigest()


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
