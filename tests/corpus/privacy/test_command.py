"""`headrace privacy`, as a user calls it."""

import json
import stat

import pytest

from headrace.cli import main

TEXT = "Schreib an anna@firma.de oder ruf an: 030 901820."


def test_a_text_is_masked(capsys):
    assert main(["privacy", TEXT, "--language", "de"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Schreib an <EMAIL> oder ruf an: <PHONE>.\n"
    assert "EMAIL 1, PHONE 1" in printed.err
    assert "anna@firma.de" not in printed.err


def test_a_file_is_read(capsys, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text(TEXT, encoding="utf-8")
    assert main(["privacy", str(path), "--language", "de", "--json"]) == 0
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert document["text"] == "Schreib an <EMAIL> oder ruf an: <PHONE>."
    assert [span["type"] for span in document["spans"]] == ["EMAIL", "PHONE"]
    assert "anna@firma.de" not in printed
    assert "901820" not in printed


def test_values_are_shown_to_those_who_ask(capsys):
    assert main(["privacy", TEXT, "--language", "de", "--json", "--show-values"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert [one["value"] for one in values] == ["anna@firma.de", "030 901820"]
    assert main(["privacy", TEXT, "--language", "de", "--show-values"]) == 0
    assert "EMAIL: anna@firma.de" in capsys.readouterr().err


def test_a_key_is_made_once_and_used(capsys, tmp_path):
    key = tmp_path / "keys" / "secret"
    assert main(["privacy", "--make-key", str(key)]) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in capsys.readouterr().out
    assert main(["privacy", "--make-key", str(key)]) == 2
    assert "a file already" in capsys.readouterr().err
    arguments = ["privacy", TEXT, "--language", "de", "--mode", "pseudonym", "--key", str(key)]
    assert main([*arguments, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert "@example.org" in first["text"]
    assert len(first["subject_keys"]) == 2
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_a_language_without_a_pack_is_warned_of(capsys):
    assert main(["privacy", "a@b.org", "--language", "tlh"]) == 0
    assert "warning: tlh: there is no pack" in capsys.readouterr().err


def test_a_document_is_dropped(capsys):
    assert main(["privacy", TEXT, "--language", "de", "--mode", "drop"]) == 0
    assert capsys.readouterr().out == "dropped: private information: EMAIL, PHONE\n"


def test_names_are_found_on_request(capsys):
    text = "Sehr geehrte Frau Schulz, guten Tag"
    assert main(["privacy", text, "--language", "de"]) == 0
    assert "Schulz" in capsys.readouterr().out
    assert main(["privacy", text, "--language", "de", "--names"]) == 0
    assert "Frau <PERSON>, guten" in capsys.readouterr().out


def test_the_packs_are_checked(capsys, tmp_path):
    assert main(["privacy", "--check-packs"]) == 0
    assert "examples: ok" in capsys.readouterr().out
    (tmp_path / "countries").mkdir()
    (tmp_path / "countries" / "XX.hjson").write_text(
        "{kind: country\ncode: XX\nname: X\ndetectors: [{name: a\ntype: AB\ndigits: 4\n"
        'pattern: X\\d{4}\nscore: 0.9\nmatch: ["[[X123]]"]\nno_match: ["X"]}]}',
        encoding="utf-8",
    )
    assert main(["privacy", "--check-packs", "--packs", str(tmp_path)]) == 2
    assert "XX.a: '[[X123]]' gives 'X123'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to do"),
        (["a text"], "--language"),
        (["a text", "--language", "?"], "not a language tag"),
        (["a text", "--language", "de", "--mode", "hash"], "--mode: the mode needs a key"),
        (["a text", "--language", "de", "--key", "nowhere"], "--key: the key is missing"),
        (["a text", "--language", "de", "--packs", "nowhere"], "--packs: not a folder of packs"),
        (["no/such/file.txt", "--language", "de"], "no such file"),
        (["a text", "--check-packs"], "--check-packs"),
        (["a text", "--key", "a", "--make-key", "b"], "--make-key"),
    ],
)
def test_mistakes_are_told(capsys, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["privacy", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_a_text_that_is_not_utf_8_is_refused_without_showing_it(capsys, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_bytes(b"anna@firma.de \xff")
    assert main(["privacy", str(path), "--language", "de"]) == 2
    error = capsys.readouterr().err
    assert "not UTF-8 at byte 14" in error
    assert "anna" not in error
