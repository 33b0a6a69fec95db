"""The reader of the documentation, installed as a package would be, and packages that are wrong."""

import importlib
import re
import sys
import wave
from pathlib import Path

import pytest

from headrace.corpus.documents import Reject
from headrace.corpus.media import MediaSettings, formats
from headrace.corpus.media.registry import all_readers, reader_of
from headrace.errors import CorpusError

PAGE = Path(__file__).parents[3] / "docs" / "documents.md"


def install(folder, name, code, target):
    """What ``pip install`` leaves of a package of one module with an entry point."""
    module = target.partition(":")[0]
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[headrace.readers]\n{name} = {target}\n")


def forget():
    reader_of.cache_clear()
    all_readers.cache_clear()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path; what was loaded from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    forget()
    yield folder
    forget()
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_the_documented_reader_reads_speech(site, tmp_path, read):
    text = PAGE.read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
               if "class SpeechReader" in block]  # fmt: skip
    (name, target) = re.search(r'^(\w+) = "(\w+:\w+)"$', text, re.MULTILINE).groups()
    install(site, name, code, target)
    assert "speech" in formats()
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 12_000)
    assert read(path) == [Reject("talk.wav", "not supported", "a recording without captions")]
    cues = "00:00.000 --> 00:01.000\nHabari ya\nasubuhi\n\n00:00:01.000 --> 00:00:01.500\nNzuri\n"
    path.with_suffix(".vtt").write_text(f"WEBVTT\n\n{cues}")
    (record,) = read(path)
    assert (record.text, record.format) == ("Habari ya asubuhi Nzuri", "speech")
    assert record.metadata == {"seconds": 1.5, "segments": [[0.0, 0], [1.0, 18]]}
    path.write_bytes(path.read_bytes()[:20])
    (bad,) = read(path, MediaSettings(format="speech"))
    assert (bad.reason, bad.detail) == ("unreadable", "EOFError")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('out of order')", "cannot be imported: RuntimeError: out of order"),
        ("Other = 3", "not a reader of this name"),
        ("from headrace.corpus.media.text import TextReader as Other", "not a reader of this name"),
        ("", "cannot be imported: AttributeError"),
    ],
)
def test_a_package_that_is_wrong_is_named(site, tmp_path, read, code, words):
    install(site, "other", code, "broken_reader:Other")
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "a.txt", MediaSettings(format="other"))
    (problem,) = caught.value.problems
    assert words in problem.what
    assert "broken_reader" in problem.value


def test_two_packages_with_one_reader_are_refused(site, tmp_path, read):
    install(site, "other", "", "first_reader:Other")
    install(site, "other", "", "second_reader:Other")
    with pytest.raises(CorpusError, match=r"several packages.*first_reader.*second_reader"):
        read(tmp_path / "a.txt", MediaSettings(format="other"))
