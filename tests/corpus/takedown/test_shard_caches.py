"""Copies of remote shards: those with removed documents go, wherever a job had fetched them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import main
from headrace.shards import ShardCache, ShardReader
from headrace.shards.eviction import NOTES
from tests.corpus.takedown.conftest import LANGUAGES, RARE_HOST, SmallCorpus
from tests.shards.conftest import WebServer, serving


@pytest.fixture
def web(corpus: SmallCorpus) -> Any:
    pytest.importorskip("aiohttp")
    with serving(corpus.folder) as running:
        yield running


@pytest.fixture
def cache(corpus: SmallCorpus, web: WebServer) -> ShardCache:
    """A cache with all shards, fetched from the server."""
    found = ShardCache(corpus.folder.parent / "cache")
    read_all(web, found)
    assert len(list(found.folder.rglob("*.tar"))) == 10
    return found


def read_all(web: WebServer, cache: ShardCache) -> set[str]:
    keys = set()
    for language in LANGUAGES:
        with ShardReader(f"{web.url}/{language}", cache=cache) as reader:
            keys |= {sample.key for sample in reader}
    return keys


def remove(
    corpus: SmallCorpus, cache: ShardCache, capsys: pytest.CaptureFixture[str], *options: str
) -> Any:
    """The takedown is done where the corpus lies, not at the address that jobs read it from."""
    assert main(["remove", str(corpus.folder), "--key", str(corpus.key_file), "--yes", "--json",
                 "--stage", "overwrite", "--cache-dir", str(corpus.folder.parent / "encoded"),
                 "--shard-cache", str(cache.folder), *options]) == 0  # fmt: skip
    return json.loads(capsys.readouterr().out)["outcome"]


def found_in(cache: ShardCache, marks: list[bytes]) -> set[Path]:
    paths = [path for path in cache.folder.rglob("*") if path.is_file()]
    return {path for path in paths if any(mark in path.read_bytes() for mark in marks)}


def test_copies_with_removed_documents_go_and_all_others_stay(
    corpus: SmallCorpus, web: WebServer, cache: ShardCache, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = corpus.ids(lambda document: RARE_HOST in str(document.url))
    marks = corpus.marks(gone)
    copies = found_in(cache, marks)
    assert len(copies) == 4
    next(iter(sorted(copies))).with_name(NOTES).write_bytes(b"{torn")
    before = set(cache.folder.rglob("*.tar"))
    outcome = remove(corpus, cache, capsys, "--domain", RARE_HOST)
    assert (outcome["cached"], outcome["cached_in_use"]) == (4, 0)
    assert set(cache.folder.rglob("*.tar")) == before - copies
    assert not found_in(cache, marks)
    assert read_all(web, cache) == corpus.documents.keys() - gone
    assert not found_in(cache, marks)


def test_a_copy_that_a_job_uses_stays_until_the_command_is_given_again(
    corpus: SmallCorpus, web: WebServer, cache: ShardCache, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = corpus.ids(lambda document: RARE_HOST in str(document.url))
    reader = ShardReader(f"{web.url}/en")
    lease = cache.acquire(reader.url, reader.manifest.shards[0])
    outcome = remove(corpus, cache, capsys, "--domain", RARE_HOST)
    assert (outcome["cached"], outcome["cached_in_use"]) == (3, 1)
    (left,) = found_in(cache, corpus.marks(gone))
    assert left.parent == Path(lease.folder)
    lease.release()
    outcome = remove(corpus, cache, capsys)
    assert (outcome["cached"], outcome["cached_in_use"]) == (1, 0)
    assert not found_in(cache, corpus.marks(gone))
