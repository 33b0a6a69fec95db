"""The secret key of hashes, pseudonyms and subject keys: a file that stays outside the data."""

from __future__ import annotations

import os
import secrets
import stat
from hashlib import blake2b
from pathlib import Path

from headrace.errors import CorpusError, Problem

_BYTES = 32
_LETTERS = "abcdefghijklmnop"
TOKEN = 12
"""Letters of a token, 4 bits each."""


class Key:
    """A secret of 32 bytes; whoever has it can tell whether a value is behind a token.

    All digests are BLAKE2b with the key, and differ by purpose.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"Key({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """Names the key without saying what it is: 16 hexadecimal digits."""
        return self.digest("fingerprint", "").hex()[:16]

    def digest(self, purpose: str, value: str, size: int = 16) -> bytes:
        """``size`` bytes that depend on key, purpose (at most 16 bytes) and value."""
        data = value.encode("utf-8", "surrogatepass")
        return blake2b(data, key=self._secret, digest_size=size, person=purpose.encode()).digest()

    def token(self, type_: str, value: str) -> str:
        """12 letters from a to p: no digit, so that no detector takes it for anything."""
        digest = self.digest("token", f"{type_}\0{value}", TOKEN // 2)
        return "".join(_LETTERS[byte >> 4] + _LETTERS[byte & 15] for byte in digest)

    def subject(self, type_: str, value: str) -> str:
        """The key under which a person's documents are found: ``email:`` or ``phone:`` and hex."""
        digest = self.digest("subject", f"{type_}\0{value}")
        return f"{type_.lower()}:{digest.hex()}"


def make_key(path: str | Path, *, data: str | Path | None = None) -> Key:
    """Make a key and write it to a new file that its owner alone can read (0600).

    Args:
        path: the file; its folder is made if need be.
        data: the folder of the data set, in which the file must not lie.

    Raises:
        CorpusError: if there is such a file, it would lie in ``data``, or cannot be written.
    """
    _check_outside(path, data)
    secret = secrets.token_bytes(_BYTES)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        remedy = "Use it, or name another file: what it made cannot be made again without it"
        raise CorpusError(Problem("there is a file already", "key", str(path), remedy)) from None
    except OSError as error:
        raise _unusable(path, error) from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secret.hex() + "\n")
        file.flush()
        os.fsync(handle)
    return Key(secret)


def load_key(path: str | Path, *, data: str | Path | None = None) -> Key:
    """Read a key.

    Args:
        path: the file that :func:`make_key` wrote.
        data: the folder of the data set, in which the file must not lie.

    Raises:
        CorpusError: if it is missing, not a key, open to others, or lies in ``data``.
    """
    _check_outside(path, data)
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(1000)
    except FileNotFoundError:
        remedy = "Make one with: headrace privacy --make-key FILE"
        raise CorpusError(Problem("the key is missing", "key", str(path), remedy)) from None
    except OSError as error:
        raise _unusable(path, error) from error
    if stat.S_IMODE(mode) & 0o077:
        what = f"others may use the key: its permissions are {stat.S_IMODE(mode):04o}"
        raise CorpusError(Problem(what, "key", str(path), f"Run: chmod 600 {path}"))
    try:
        secret = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != _BYTES:
        remedy = f"A key is a line of {2 * _BYTES} hexadecimal digits"
        raise CorpusError(Problem("not a key", "key", str(path), remedy))
    return Key(secret)


def _check_outside(path: str | Path, data: str | Path | None) -> None:
    if data is not None and Path(path).resolve().is_relative_to(Path(data).resolve()):
        remedy = "Keep it elsewhere: who gets the data set must not get the key"
        raise CorpusError(Problem("the key lies inside the data set", "key", str(path), remedy))


def _unusable(path: str | Path, error: OSError) -> CorpusError:
    what = f"the key cannot be used: {error.strerror}"
    return CorpusError(Problem(what, "key", str(path), "Name a file on a local disk"))
