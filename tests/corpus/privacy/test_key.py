"""The file of the key."""

import os
import stat

import pytest

from headrace.corpus.privacy import load_key, make_key
from headrace.errors import CorpusError


def test_a_key_is_a_file_of_its_owner_and_reads_back(tmp_path):
    path = tmp_path / "new" / "key"
    old = os.umask(0)
    try:
        key = make_key(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path).fingerprint == key.fingerprint
    assert make_key(tmp_path / "other").fingerprint != key.fingerprint
    assert path.read_text().strip() not in repr(key)


def test_purposes_do_not_mix(tmp_path):
    key = make_key(tmp_path / "key")
    assert key.digest("token", "a") != key.digest("subject", "a")
    assert key.subject("EMAIL", "a") != key.subject("PHONE", "a")


@pytest.mark.parametrize("function", [make_key, load_key])
def test_a_key_does_not_lie_in_the_data_set(tmp_path, function):
    if function is load_key:
        make_key(tmp_path / "data" / "key")
    with pytest.raises(CorpusError, match="inside the data set"):
        function(tmp_path / "data" / ".." / "data" / "key", data=tmp_path / "data")


def test_a_key_is_not_written_over(tmp_path):
    before = make_key(tmp_path / "key").fingerprint
    with pytest.raises(CorpusError, match="a file already"):
        make_key(tmp_path / "key")
    assert load_key(tmp_path / "key").fingerprint == before


@pytest.mark.parametrize("content", ["", "abc", "00" * 31, "zz" * 32, "\xff"])
def test_what_is_no_key_is_refused(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(CorpusError, match="not a key"):
        load_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path, mode):
    make_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(CorpusError, match="chmod 600"):
        load_key(tmp_path / "key")


def test_a_missing_key_is_told_with_the_way_to_make_one(tmp_path):
    with pytest.raises(CorpusError, match="headrace privacy --make-key"):
        load_key(tmp_path / "key")
