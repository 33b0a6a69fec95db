import contextlib
import json
import os
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import xxhash
import yaml

from headrace.corpus.building.build import build_corpus
from headrace.corpus.building.sandbox import close_idle
from headrace.corpus.building.workers import local_workers
from headrace.corpus.recipe import load_recipe
from tests.corpus.conftest import GOVERNANCE

WORDS = [
    "river",
    "channel",
    "water",
    "wheel",
    "mill",
    "stone",
    "field",
    "harvest",
    "bread",
    "morning",
    "evening",
    "village",
    "road",
    "bridge",
    "market",
    "letter",
    "window",
    "garden",
    "winter",
    "summer",
    "teacher",
    "doctor",
    "children",
    "mother",
    "father",
    "music",
    "table",
]


@pytest.fixture(autouse=True)
def no_process_stays():
    """Parts that a test examines itself leave their process for the next part."""
    yield
    close_idle()


def sentence(number: int, words: int = 14) -> str:
    """English words, another order for each number."""
    return " ".join(WORDS[(number * 7 + i * (number % 11 + 3)) % len(WORDS)] for i in range(words))


def tree(folder: Path) -> dict[str, str]:
    """Every file and the hash of its bytes."""
    return {
        str(path.relative_to(folder)): xxhash.xxh3_128_hexdigest(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def workers():
    """One worker, in this process, for all builds."""
    with local_workers(1) as found:
        yield lambda: contextlib.nullcontext(found)


@pytest.fixture
def corpus(tmp_path, workers):
    """Writes recipes and files, and builds."""

    def recipe(*sources: dict, **sections) -> Path:
        content = {
            "name": "test",
            "version": "1",
            "sources": [{**GOVERNANCE, **source} for source in sources],
            "privacy": None,
            "duplicates": None,
            **sections,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def jsonl(name: str, rows: list) -> str:
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)

    def build(path: Path, out: str = "out", **options) -> dict:
        loaded = load_recipe(path, tmp_path / out)
        return build_corpus(loaded, tmp_path / out, workers, **options)

    return SimpleNamespace(
        recipe=recipe,
        jsonl=jsonl,
        build=build,
        sentence=sentence,
        tree=tree,
        rows_of=rows_of,
        folder=tmp_path,
        out=tmp_path / "out",
    )


@pytest.fixture
def hostile_reader(tmp_path, monkeypatch):
    """An installed package whose reader does what a line of its file tells it to."""
    site = tmp_path / "site"
    information = site / "hostile-0.1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[headrace.readers]\nhostile = hostile:Hostile\n")
    (site / "hostile.py").write_text(
        textwrap.dedent(
            '''
            import ctypes, hashlib, os, signal, time
            from headrace.corpus.documents import Record
            from headrace.corpus.media import Reader

            class Text(str):
                """Does harm when it is examined, not when it is read."""
                def isascii(self):
                    act(str(self))
                    return str.isascii(self)

            def act(text):
                word = text.split()[0]
                if word == "LOOP":
                    while True:
                        pass
                if word == "STUCK":  # in C, where no signal of Python is looked at
                    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)
                if word == "SLEEP":
                    time.sleep(10_000)
                if word == "BOMB":
                    bytearray(1 << 40)
                if word == "ABORT":
                    os.abort()
                if word == "RAISE":
                    raise RuntimeError(text)

            class Hostile(Reader):
                name = "hostile"
                single = False

                def read(self, file):
                    with file.open() as stream:
                        for number, line in enumerate(stream.read().decode().splitlines()):
                            if line == "READING TOUCH":
                                os.utime(file.url)
                            elif line.startswith("READING "):
                                act(line.removeprefix("READING "))
                            yield Record(f"{file.key}#{number}", Text(line), format=self.name)
            '''
        )
    )
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{before}")
    monkeypatch.syspath_prepend(site)
    return "hostile"
