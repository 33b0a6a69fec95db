"""Takedown of a corpus: what is found, what goes, what stays, and the record of it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.cli import main
from headrace.corpus.catalogue.schema import domain_of
from headrace.corpus.takedown.log import LOG_NAME, append_to_log, read_log
from headrace.corpus.takedown.places import open_place
from headrace.corpus.takedown.remove import take_down
from headrace.corpus.takedown.request import Match, make_request, resolve
from headrace.errors import CorpusError
from headrace.shards import ShardReader
from headrace.shards.verify import verify_source
from tests.corpus.takedown.conftest import LANGUAGES, PERSON, SmallCorpus, make_corpus
from tests.killed import killed_at


def ids_in_shards(corpus: SmallCorpus) -> set[str]:
    return {
        sample.key
        for language in LANGUAGES
        for sample in ShardReader(str(corpus.folder / language))
    }


def ids_in(corpus: SmallCorpus, table: str) -> set[str]:
    return set(pq.read_table(corpus.folder / table).column("id").to_pylist())


def remove(corpus: SmallCorpus, *options: str) -> int:
    return main(["remove", str(corpus.folder), "--key", str(corpus.key_file),
                 "--cache-dir", str(corpus.folder.parent / "encoded"), *options])  # fmt: skip


def assert_gone(corpus: SmallCorpus, gone: set[str], *, bytes_too: bool) -> None:
    assert ids_in_shards(corpus) == corpus.documents.keys() - gone
    assert ids_in(corpus, "index.parquet") == corpus.documents.keys() - gone
    assert not (corpus.folder / ".build").exists()
    if bytes_too:
        for name, content in corpus.files().items():
            for mark in corpus.marks(gone):
                assert mark not in content, name
    for language in LANGUAGES:
        assert not verify_source(str(corpus.folder / language)).problems
    read_log(str(corpus.folder), corpus.key)


def test_a_dry_run_shows_what_would_go_and_changes_nothing(
    corpus: SmallCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    before = corpus.files()
    assert remove(corpus, "--domain", "example.com") == 0
    shown = capsys.readouterr().out
    assert "would be removed" in shown
    assert "language de: 14" in shown
    assert "Give --yes" in shown
    assert corpus.files() == before


def test_a_person_is_found_by_the_key_and_never_written_down(
    corpus: SmallCorpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = corpus.ids(lambda document: bool(document.subject_keys))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f" {PERSON.upper()}\n"))
    assert remove(corpus, "--subject", "-", "--stage", "overwrite", "--yes") == 0
    assert_gone(corpus, wanted, bytes_too=True)
    output = capsys.readouterr()
    everything = b"".join(corpus.files().values()) + (output.out + output.err).encode()
    assert b"fischer" not in everything.lower()
    assert main(["remove", str(corpus.folder), "--subject", PERSON]) == 2
    assert "--key FILE" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["tombstone", "overwrite", "compact"])
def test_a_site_goes_stage_by_stage(corpus: SmallCorpus, stage: str) -> None:
    wanted = corpus.ids(lambda document: str(domain_of(document.url)).endswith("example.org"))
    twins = corpus.ids(lambda document: document.cluster == "cluster1")
    assert remove(corpus, "--domain", "Example.org", "--stage", stage, "--yes") == 0
    assert_gone(corpus, wanted | twins, bytes_too=stage != "tombstone")
    assert ids_in(corpus, "filtered.parquet") == set(), "it was a near-duplicate"
    kept = [json.loads(line)["key"] for line in (corpus.folder / "quarantine.jsonl").open()]
    assert kept == ["broken", "torn"]
    if stage == "compact":
        for row in pq.read_table(corpus.folder / "index.parquet").to_pylist():
            reader = ShardReader(str(corpus.folder / row["language"]))
            shards = [entry.name for entry in reader.manifest.shards]
            sample = reader.shard(shards.index(row["shard"]))[row["position"]]
            assert sample.key == row["id"]
        assert not list(corpus.folder.glob(".*.before"))
        assert reader.manifest.parent is not None
    else:
        assert remove(corpus, "--stage", "overwrite", "--yes") == 0
        assert_gone(corpus, wanted | twins, bytes_too=True)


def test_a_language_of_which_nothing_is_left(corpus: SmallCorpus) -> None:
    """It is overwritten, and the other one is compacted."""
    gone = corpus.ids(lambda document: document.language == "en" or "/de/7" in str(document.url))
    ids = [word for id_ in gone for word in ("--id", id_)]
    for _ in range(2):
        assert remove(corpus, *ids, "--no-duplicates", "--stage", "compact", "--yes") == 0
        assert_gone(corpus, gone, bytes_too=True)
    log = [json.loads(line) for line in (corpus.folder / LOG_NAME).open()]
    assert [(line["compacted"], line["emptied"]) for line in log[1::2]] == [
        (["de"], ["en"]), ([], ["en"]),
    ]  # fmt: skip


def test_what_each_request_finds(corpus: SmallCorpus, tmp_path: Path) -> None:
    place = open_place(str(corpus.folder))
    some = sorted(corpus.documents)[5]
    document = corpus.documents[some]

    def found(kind: Any, value: str, **options: Any) -> Match:
        return resolve(place, [make_request(kind, value, corpus.key)], **options)

    assert found("id", some, clusters=False).ids == {some: document.language}
    assert found("url", str(document.url), clusters=False).ids.keys() == {some}
    assert found("text", f"{document.text}  \r\n", clusters=False).ids.keys() == {some}
    web = corpus.ids(lambda document: document.source == "web")
    assert found("source", "web", clusters=False).ids.keys() == web
    assert found("custodian", "WEB custodian", clusters=False).ids.keys() == web
    copies = found("url", "https://copies.example.net/2")
    assert copies.ids.keys() == corpus.ids(lambda document: document.cluster == "cluster1")
    assert copies.of_clusters == 4
    assert copies.filtered == set(corpus.filtered)
    assert not found("domain", "ample.com")
    assert not found("subject", "someone@example.org")


def test_nothing_that_is_named_is_an_error(
    corpus: SmallCorpus, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["remove", str(corpus.folder)]) == 2
    assert "nothing is named" in capsys.readouterr().err
    assert main(["remove", str(tmp_path / "none"), "--id", "x"]) == 2
    assert "no corpus" in capsys.readouterr().err
    assert main(["remove", str(corpus.folder / "en"), "--domain", "a.org"]) == 2
    assert "no index" in capsys.readouterr().err


def test_a_single_source_of_shards(corpus: SmallCorpus) -> None:
    some = next(id_ for id_, document in corpus.documents.items() if document.language == "en")
    assert main(["remove", str(corpus.folder / "en"), "--id", some, "--yes",
                 "--cache-dir", str(corpus.folder / "none")]) == 0  # fmt: skip
    assert some not in ids_in_shards(corpus)


def changes_a_file(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file is opened to be written, renamed or deleted, or a folder deleted."""
    if event == "open":
        return "w" in str(arguments[1])
    return event in ("os.rename", "os.remove", "os.rmdir")


def test_a_takedown_that_is_killed_is_finished_by_the_same_command(tmp_path: Path) -> None:
    """At some changes of files; an overwriting is killed at each one in tests/shards."""
    for event in (2, 9, 31, 62, 104, 157):
        corpus = make_corpus(tmp_path / str(event))
        wanted = corpus.ids(lambda document: document.source == "books")
        place = open_place(str(corpus.folder))
        request = make_request("source", "books", corpus.key)

        def work(place: Any = place, request: Any = request, key: Any = corpus.key) -> None:
            match = resolve(place, [request], clusters=False)
            take_down(place, match, [request], stage="compact", key=key)

        assert killed_at(event, work, changes_a_file)
        work()
        assert_gone(corpus, wanted, bytes_too=True)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_change_of_the_log_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    corpus = Path(tmp_path)
    key_file = corpus / "key"
    from headrace.corpus.privacy import load_key, make_key

    key = load_key(key_file) if key_file.exists() else make_key(key_file)
    path = corpus / LOG_NAME
    path.unlink(missing_ok=True)
    for number in range(3):
        append_to_log(str(corpus), {"action": "remove", "ids": [f"d{number}"]}, key)
    lines = path.read_bytes().splitlines(keepends=True)
    change = data.draw(st.sampled_from(["drop", "swap", "edit", "forge"]))
    place = data.draw(st.integers(0, 1))  # a log may end anywhere: its end is kept elsewhere
    if change == "drop":
        del lines[place]
    elif change == "swap":
        lines[place], lines[place + 1] = lines[place + 1], lines[place]
    elif change == "edit":
        position = data.draw(st.integers(0, len(lines[place]) - 2))
        content = bytearray(lines[place])
        content[position] ^= 1 << data.draw(st.integers(0, 6))
        lines[place] = bytes(content)
    else:  # by somebody without the key
        path.write_bytes(b"".join(lines[:place]))
        append_to_log(str(corpus), {"action": "remove", "ids": ["other"]}, None)
        lines[place] = path.read_bytes().splitlines(keepends=True)[-1]
    path.write_bytes(b"".join(lines))
    with pytest.raises(CorpusError, match="log of takedowns was changed"):
        read_log(str(corpus), key)


def test_the_log_is_checked_by_a_command(
    corpus: SmallCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remove(corpus, "--id", next(iter(corpus.documents)), "--yes") == 0
    capsys.readouterr()
    assert remove(corpus, "--check-log", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "lines": 2, "unsigned": 0}
    path = corpus.folder / LOG_NAME
    path.write_bytes(path.read_bytes().replace(b'"documents":1', b'"documents":0'))
    assert remove(corpus, "--check-log") == 2
