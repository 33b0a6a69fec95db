"""The vectors of a source on disk: whole after a kill, made again where bytes are damaged."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from headrace.errors import EncodingError, ShardError
from headrace.selection.embed import embed_source
from headrace.selection.encoder import Encoder, load_encoder
from headrace.shards import ShardReader, ShardWriter
from headrace.shards.sample import Sample


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return load_encoder(small_encoder, max_length=48)


@pytest.fixture
def english(small_corpus):
    with ShardReader(small_corpus.source("en", "train")) as reader:
        yield reader  # 150 samples in shards of 40


@pytest.fixture
def counted(monkeypatch):
    """Texts that were embedded, in each call."""
    calls = []
    plain = Encoder.embed

    def embed(self, texts, done=lambda count: None):
        calls.append(len(texts))
        return plain(self, texts, done)

    monkeypatch.setattr(Encoder, "embed", embed)
    return calls


def test_rows_are_the_samples_in_order(encoder, english, tmp_path, counted):
    source = embed_source(english, encoder, tmp_path, name="en")
    assert source.vectors.shape == (150, 32)
    assert source.vectors.dtype == np.float16
    assert isinstance(source.vectors.base, np.memmap)
    texts = [sample.text for sample in english]
    vectors, lengths = encoder.embed(texts)
    np.testing.assert_allclose(source.vectors, vectors, atol=2e-3)
    np.testing.assert_array_equal(source.lengths, lengths)
    counted.clear()
    again = embed_source(english, encoder, tmp_path, name="en")
    assert counted == []
    np.testing.assert_array_equal(again.vectors, source.vectors)
    assert again.fingerprint == source.fingerprint


def test_a_killed_process_loses_the_shard_in_hand(
    encoder, small_encoder, english, tmp_path, counted, die_writing
):
    """Killed when the vectors of the third shard are written and its marker is not."""
    script = die_writing + textwrap.dedent("""
        import sys
        from headrace.selection import embed
        from headrace.selection.encoder import load_encoder
        from headrace.shards import ShardReader

        die_writing(2)
        encoder = load_encoder(sys.argv[1], max_length=48)
        embed.embed_source(ShardReader(sys.argv[2]), encoder, sys.argv[3], name="en")
    """)
    killed = subprocess.run(
        [sys.executable, "-c", script, str(small_encoder), english.url, str(tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    source = embed_source(english, encoder, tmp_path / "killed", name="en")
    assert counted == [40, 30]
    whole = embed_source(english, encoder, tmp_path / "whole", name="en")
    np.testing.assert_array_equal(source.vectors, whole.vectors)
    np.testing.assert_array_equal(source.lengths, whole.lengths)


def test_damaged_rows_are_made_again(encoder, english, tmp_path, counted, caplog):
    source = embed_source(english, encoder, tmp_path, name="en")
    expected = np.array(source.vectors)
    file = tmp_path / source.fingerprint / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-100] ^= 0xFF  # in the last shard, of 30
    file.write_bytes(content)
    counted.clear()
    again = embed_source(english, encoder, tmp_path, name="en")
    assert counted == [30]
    assert "not those that were written" in caplog.text
    np.testing.assert_array_equal(again.vectors, expected)


def test_a_file_that_was_cut_is_made_again(encoder, english, tmp_path, counted):
    source = embed_source(english, encoder, tmp_path, name="en")
    expected = np.array(source.vectors)
    file = tmp_path / source.fingerprint / "vectors.npy"
    file.write_bytes(file.read_bytes()[:-1])
    counted.clear()
    again = embed_source(english, encoder, tmp_path, name="en")
    assert sum(counted) == 150
    np.testing.assert_array_equal(again.vectors, expected)


def test_a_stale_cache_is_not_used(encoder, small_encoder, english, small_corpus, tmp_path):
    other = ShardReader(small_corpus.source("hi", "train"))
    fingerprints = {
        embed_source(english, encoder, tmp_path, name="en").fingerprint,
        embed_source(other, encoder, tmp_path, name="hi").fingerprint,
        embed_source(
            english, load_encoder(small_encoder, max_length=47), tmp_path, name="en"
        ).fingerprint,
    }
    assert len(fingerprints) == 3


def test_a_source_that_was_written_anew_is_embedded_again(encoder, tmp_path):
    found = []
    for text in ("one text", "quite another text"):
        shutil.rmtree(tmp_path / "source", ignore_errors=True)
        with ShardWriter(str(tmp_path / "source")) as writer:
            writer.write(Sample("k", {"txt": text.encode(), "json": b"{}"}))
        writer.close()
        with ShardReader(str(tmp_path / "source")) as reader:
            source = embed_source(reader, encoder, tmp_path / "cache", name="x")
        np.testing.assert_allclose(source.vectors, encoder.embed([text])[0], atol=2e-3)
        found.append(source.fingerprint)
    assert found[0] != found[1]


def test_a_terminal_gets_a_progress_bar(encoder, english, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    embed_source(english, encoder, tmp_path / "shown", name="en")
    assert "embedding en: 100%" in terminal.getvalue()
    assert "150/150" in terminal.getvalue()
    embed_source(english, encoder, tmp_path / "quiet", name="en", show=False)
    assert terminal.getvalue().count("150/150") == 1


@pytest.mark.slow
def test_processes_that_start_together_share_the_work(small_encoder, english, encoder, tmp_path):
    script = textwrap.dedent("""
        import sys
        from headrace.selection.embed import embed_source
        from headrace.selection.encoder import load_encoder
        from headrace.shards import ShardReader

        encoder = load_encoder(sys.argv[1], max_length=48)
        done = []
        plain = type(encoder).embed
        type(encoder).embed = lambda self, texts, told: (
            done.append(len(texts)), plain(self, texts, told)
        )[1]
        source = embed_source(ShardReader(sys.argv[2]), encoder, sys.argv[3], name="en")
        print(source.vectors.astype("f8").sum(), sum(done))
    """)
    command = [sys.executable, "-c", script, str(small_encoder), english.url, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [process.communicate()[0].split() for process in started]
    assert sum(int(count) for _, count in results) == 150  # no text by both
    source = embed_source(english, encoder, tmp_path, name="en")
    assert {float(total) for total, _ in results} == {source.vectors.astype("f8").sum()}


def test_a_full_disk_is_noticed_before_the_work(encoder, english, tmp_path, counted):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
    try:
        with pytest.raises(EncodingError, match="cannot be written"):
            embed_source(english, encoder, tmp_path, name="en")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert counted == []


def test_texts_that_are_not_utf8_are_named(encoder, tmp_path):
    with ShardWriter(str(tmp_path / "source"), samples_per_shard=2) as writer:
        for number in range(4):
            text = b"fine" if number != 3 else b"\xff\xfe"
            writer.write(Sample(f"k{number}", {"txt": text, "json": json.dumps({}).encode()}))
    writer.close()
    with pytest.raises(ShardError, match="k3: field txt is not UTF-8"):
        embed_source(ShardReader(str(tmp_path / "source")), encoder, tmp_path / "c", name="x")
