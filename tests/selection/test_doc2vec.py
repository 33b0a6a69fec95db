"""Doc2Vec vectors: the same in every process, near for similar texts, kept like others."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from headrace.errors import SelectionError, ShardError
from headrace.selection import doc2vec
from headrace.selection.doc2vec import Doc2VecSettings, embed_sources, source_fingerprints
from headrace.selection.inputs import Sources
from headrace.shards import ShardReader, ShardWriter
from headrace.shards.sample import Sample

SMALL = Doc2VecSettings(vector_size=16, epochs=3)


@pytest.fixture
def readers(small_corpus):
    opened = {name: ShardReader(small_corpus.source(name, "train")) for name in ("en", "zh")}
    yield opened
    for reader in opened.values():
        reader.close()


@pytest.fixture
def trainings(monkeypatch):
    """Models that were trained."""
    calls = []
    plain = doc2vec._trained

    def trained(*arguments):
        calls.append(1)
        return plain(*arguments)

    monkeypatch.setattr(doc2vec, "_trained", trained)
    return calls


def written(folder, texts, **fields):
    with ShardWriter(str(folder), samples_per_shard=50) as writer:
        for number, text in enumerate(texts):
            content = text if isinstance(text, bytes) else text.encode()
            writer.write(Sample(f"k{number:04}", {"txt": content, "json": b"{}", **fields}))
    writer.close()
    return ShardReader(str(folder))


SCRIPT = textwrap.dedent("""
    import sys
    from headrace.selection.doc2vec import Doc2VecSettings, embed_sources
    from headrace.shards import ShardReader

    cache, *urls = sys.argv[1:]
    readers = {url: ShardReader(url) for url in urls}
    found = embed_sources(readers, Doc2VecSettings(vector_size=16, epochs=3), cache)
    for source in found.values():
        sys.stdout.buffer.write(source.vectors.tobytes() + source.lengths.tobytes())
""")


def process(cache, *urls, before="", seed="0"):
    return subprocess.Popen(
        [sys.executable, "-c", before + SCRIPT, str(cache), *urls],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def bytes_of(found):
    return b"".join(
        source.vectors.tobytes() + source.lengths.tobytes() for source in found.values()
    )


@pytest.mark.slow
def test_processes_with_other_hashes_make_the_same_vectors(readers, tmp_path):
    urls = [reader.url for reader in readers.values()]
    started = [process(tmp_path / seed, *urls, seed=seed) for seed in ("1", "2")]
    first, second = (each.communicate() for each in started)
    assert first[0] == second[0] != b"", first[1].decode()
    assert first[0] == bytes_of(embed_sources(readers, SMALL, tmp_path / "here"))


@pytest.mark.slow
def test_processes_that_start_together_train_once(readers, tmp_path):
    urls = [reader.url for reader in readers.values()]
    started = [process(tmp_path, *urls) for _ in range(2)]
    results = {each.communicate()[0] for each in started}
    assert results == {bytes_of(embed_sources(readers, SMALL, tmp_path))}


def test_vectors_are_kept_and_made_once(readers, tmp_path, trainings):
    found = embed_sources(readers, SMALL, tmp_path)
    assert {name: source.vectors.shape for name, source in found.items()} == {
        "en": (150, 16), "zh": (60, 16),
    }  # fmt: skip
    assert all(source.vectors.dtype == np.float16 for source in found.values())
    again = embed_sources(dict(reversed(readers.items())), SMALL, tmp_path)
    assert len(trainings) == 1
    for name in readers:
        np.testing.assert_array_equal(found[name].vectors, again[name].vectors)
    assert not list(tmp_path.rglob(".words"))


def test_lengths_are_the_numbers_of_words(tmp_path):
    with written(tmp_path / "source", ["one two three", "北京天安门", "word"]) as reader:
        found = embed_sources({"x": reader}, SMALL, tmp_path / "cache")["x"]
    assert found.lengths.tolist() == [3, 4, 1]


def test_fingerprints_are_of_all_that_decides(readers):
    plain = source_fingerprints(readers, SMALL)
    assert len(set(plain.values())) == 2
    assert source_fingerprints(dict(reversed(readers.items())), SMALL) == plain
    assert source_fingerprints({"en": readers["en"]}, SMALL)["en"] != plain["en"]
    for changed in ({"seed": 1}, {"epochs": 4}, {"dm": False}, {"window": 2}, {"min_count": 2}):
        settings = Doc2VecSettings(**{"vector_size": 16, "epochs": 3, **changed})
        assert source_fingerprints(readers, settings)["en"] != plain["en"]


def test_a_training_that_is_killed_starts_over(readers, tmp_path, trainings, die_writing):
    """Killed when some rows are written."""
    urls = [reader.url for reader in readers.values()]
    killed = process(tmp_path / "killed", *urls, before=die_writing + "die_writing(1)\n")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    found = embed_sources(readers, SMALL, tmp_path / "killed")
    assert len(trainings) == 1
    assert bytes_of(found) == bytes_of(embed_sources(readers, SMALL, tmp_path / "whole"))


def test_damaged_rows_are_made_again(readers, tmp_path, trainings, caplog):
    found = embed_sources(readers, SMALL, tmp_path)
    expected = bytes_of(found)
    file = tmp_path / found["zh"].fingerprint / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-100] ^= 0xFF
    file.write_bytes(content)
    assert bytes_of(embed_sources(readers, SMALL, tmp_path)) == expected
    assert len(trainings) == 2
    assert "not those that were written" in caplog.text


@pytest.mark.parametrize("dm", [True, False])
def test_texts_with_the_same_words_are_near(tmp_path, dm):
    """Two subjects with words of their own, in a script with and one without spaces."""
    random = np.random.default_rng(0)
    subjects = [[f"word{subject}{number}" for number in range(30)] for subject in range(2)]
    texts = [" ".join(random.choice(subjects[row % 2], 12)) for row in range(200)]
    signs = [[chr(0x4E00 + 40 * subject + number) for number in range(8)] for subject in range(2)]
    texts += ["".join(random.choice(signs[row % 2], 30)) for row in range(200)]
    settings = Doc2VecSettings(vector_size=16, epochs=40, dm=dm)
    with written(tmp_path / "source", texts) as reader:
        found = embed_sources({"x": reader}, settings, tmp_path / "cache")["x"]
    unit = found.vectors.astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for start in (0, 200):
        one, other = unit[start : start + 200 : 2], unit[start + 1 : start + 200 : 2]
        assert (one @ one.T).mean() > (one @ other.T).mean() + 0.2


def test_samples_without_words_are_named(tmp_path):
    with written(tmp_path / "source", ["one two", " ", "one three", ""]) as reader:
        with pytest.raises(SelectionError, match="x/k0001, x/k0003"):
            embed_sources({"x": reader}, SMALL, tmp_path / "cache")
        rare = Doc2VecSettings(vector_size=4, min_count=2)
        with pytest.raises(SelectionError, match="Lower min_count"):
            embed_sources({"x": reader}, rare, tmp_path / "cache")
    with (
        written(tmp_path / "empty", ["", " "]) as reader,
        pytest.raises(SelectionError, match="k0000, x/k0001"),
    ):
        embed_sources({"x": reader}, SMALL, tmp_path / "cache")


def test_texts_that_are_not_utf8_are_named(tmp_path):
    with (
        written(tmp_path / "source", ["fine", b"\xff\xfe"]) as reader,
        pytest.raises(ShardError, match="k0001: field txt is not UTF-8"),
    ):
        embed_sources({"x": reader}, SMALL, tmp_path / "cache")


def test_settings_out_of_range_are_all_named(readers, tmp_path):
    with pytest.raises(SelectionError) as caught:
        embed_sources(readers, Doc2VecSettings(0, 0, 0, 0, seed=2**31), tmp_path)
    assert [problem.where for problem in caught.value.problems] == [
        "vector_size", "epochs", "min_count", "window", "seed",
    ]  # fmt: skip


def test_without_gensim_the_extra_is_named(readers, tmp_path):
    """In a process in which gensim cannot be found."""
    script = textwrap.dedent("""
        import importlib.metadata, sys
        from headrace.selection.doc2vec import Doc2VecSettings, embed_sources

        plain = importlib.metadata.version
        def version(name):
            if name == "gensim":
                raise importlib.metadata.PackageNotFoundError(name)
            return plain(name)
        importlib.metadata.version = version
        sys.modules["gensim"] = None
        embed_sources({}, Doc2VecSettings(), sys.argv[1])
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert 'pip install "headrace[doc2vec]"' in done.stderr


def test_sources_take_the_settings_in_place_of_an_encoder(readers, tmp_path):
    inputs = Sources(readers, SMALL).embed(tmp_path)
    assert inputs.vectors.shape == (210, 16)
    assert inputs.candidates.ids[0].startswith(b"en/")
    assert inputs.candidates.costs.min() > 0
    other = Doc2VecSettings(vector_size=16, epochs=3, seed=1)
    assert Sources(readers, SMALL).fingerprint != Sources(readers, other).fingerprint
