"""What a scan says: places in the original text, whatever script and marks it is written in."""

import json
import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.corpus.privacy import Finding, find
from headrace.corpus.privacy.folding import fold
from headrace.corpus.privacy.pack import find_pack
from headrace.corpus.privacy.scan import Scanner, merged
from headrace.errors import MissingExtraError

CARD = "4111 1111 1111 1111"
MARKS = "\u200b\u200c\u200d\u200e\u200f\u061c\u202a\u202c\u2066\u2069\u2060\u00ad\ufeff"


def found(text, language="en", **options):
    return [
        (one.type, text[one.start : one.end]) for one in find(text, language, **options).findings
    ]


def in_digits(text, zero):
    return "".join(chr(ord(zero) + int(c)) if c in "0123456789" else c for c in text)


@pytest.mark.parametrize("zero", "０٠۰०০๐𝟎")
def test_digits_of_every_script_are_digits(zero):
    text = in_digits(f"x {CARD} y +49 30 901820", zero)
    assert found(text) == [
        ("CREDIT_CARD", in_digits(CARD, zero)),
        ("PHONE", in_digits("+49 30 901820", zero)),
    ]


@pytest.mark.parametrize("mark", MARKS)
def test_invisible_marks_hide_nothing(mark):
    card = mark.join(CARD)
    text = f"{mark}a {mark}{card}{mark} b anna@{mark}firma.de"
    assert found(text) == [("CREDIT_CARD", card), ("EMAIL", f"anna@{mark}firma.de")]


@settings(max_examples=100, deadline=None)
@given(before=st.text(), after=st.text(), marks=st.lists(st.sampled_from(MARKS), max_size=5))
def test_offsets_are_those_of_the_original_text(before, after, marks):
    """In code points, whatever stands around, and with marks inside."""
    value = "anna@" + "".join(marks) + "firma.de"
    text = f"{before}\n {value} \n{after}"
    start = len(before) + 2
    places = [(one.start, one.end) for one in find(text, "de").findings if one.type == "EMAIL"]
    assert (start, start + len(value)) in places


@given(text=st.text())
def test_folded_text_leads_back_to_every_character(text):
    folded = fold(text)
    assert len(folded.lower) == len(folded.text)
    end = 0
    for place, letter in enumerate(folded.text):
        start, end = folded.original(place, place + 1)
        assert letter in fold(text[start:end]).text


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_texts_give_the_same(form):
    text = unicodedata.normalize(
        form, "Contraseña: Casa!2024, teléfono: 913 368 000, jörg@firma.de"
    )
    types = [type_ for type_, _ in found(text, "es")]
    assert types == ["PASSWORD", "PHONE", "EMAIL"]
    assert found(text, "es")[2][1] == unicodedata.normalize(form, "jörg@firma.de")


def test_a_private_key_is_found_to_its_end():
    body = "\n".join(["aB3+" * 16] * 50)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert found(f"it is\n{key}\nand more") == [("PRIVATE_KEY", key)]
    cut = key[: len(key) // 2].rstrip()
    assert found(f"{cut}\n and more") == [("PRIVATE_KEY", cut + "\n")]


def test_lone_surrogates_and_nul_bytes_do_no_harm():
    assert found("\ud800 anna@firma.de \x00 " + CARD) == [
        ("EMAIL", "anna@firma.de"),
        ("CREDIT_CARD", CARD),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Version 1.2.3.4567, v8.8.4.4 and 10.0.0.1",
        "In 1994-1998 and 2019-03-12 at 12:30:45, 1.000.000 people paid $1,234,567.89",
        "ISBN 978-3-16-148410-0, pi is 3.14159265358979, see pages 1123-1145",
        "He scored 4111 1111 1111 1112 points, order 12345678901",
        "@media screen { color: #ffffff } import @angular/core",
        "git clone git@github.com:owner/project.git",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "UUID 123e4567-e89b-12d3-a456-426614174000",
        "coordinates 52.520008, 13.404954 and 100 000 000 km",
    ],
)
def test_other_numbers_are_not_findings(text):
    assert found(text) == []


def finding(type_, start, end, score=0.9):
    return Finding(type_, start, end, "universal.x", None, score)


def test_findings_that_overlap_become_one():
    """It is of the type of the longest, and nothing of any of them is left."""
    card, phone, email = finding("CARD", 0, 10), finding("PHONE", 8, 14), finding("EMAIL", 20, 30)
    assert merged([email, phone, card]) == [finding("CARD", 0, 14), email]
    assert merged([finding("A", 0, 5, 0.6), finding("B", 0, 5, 0.8)]) == [finding("B", 0, 5, 0.8)]
    assert merged([finding("B", 0, 5), finding("A", 0, 5)]) == [finding("A", 0, 5)]
    inside = [finding("PHONE", 3, 6), finding("CARD", 0, 10)]
    assert merged(inside) == [finding("CARD", 0, 10)]
    assert len(merged([finding("A", 0, 5), finding("B", 5, 9)])) == 2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9), st.sampled_from("ABC")), max_size=12)
)
def test_merged_findings_cover_what_was_found_and_do_not_overlap(parts):
    all_of_them = [finding(type_, start, start + length) for start, length, type_ in parts]
    result = merged(all_of_them)
    for one, other in pairwise(result):
        assert one.end <= other.start
    covered = {place for one in result for place in range(one.start, one.end)}
    assert covered == {place for one in all_of_them for place in range(one.start, one.end)}


def test_the_record_of_a_scan_has_no_value():
    record = json.dumps(find(f"{CARD} anna@firma.de", "en").to_json())
    assert "4111" not in record
    assert "anna" not in record


SIZE = 100_000
HOSTILE = {
    "digits": "1" * SIZE,
    "separated digits": "1-" * (SIZE // 2),
    "groups": "123 " * (SIZE // 4),
    "dots": "1.2." * (SIZE // 4),
    "at signs": "@" * SIZE,
    "one local part": "a" * (SIZE - 1) + "@",
    "many local parts": "a@" * (SIZE // 2),
    "domains": "a@" + "b." * (SIZE // 2),
    "hyphens of domains": "a@" + "b-" * (SIZE // 2),
    "colons": "a:" * (SIZE // 2),
    "hexadecimal": "ab:" * (SIZE // 3),
    "addresses": "://a:" * (SIZE // 5),
    "keys": "key=" * (SIZE // 4),
    "secret": "secret: " + "aB3" * (SIZE // 3),
    "passwords": "password " * (SIZE // 9),
    "long password": "password: " + "a!" * (SIZE // 2),
    "account": "DE12" * (SIZE // 4),
    "account with spaces": "DE12 " * (SIZE // 5),
    "tokens": "eyJ" + "a" * SIZE,
    "many tokens": "eyJaaaaaaaaaa.eyJ" * (SIZE // 17),
    "private key": "-----BEGIN PRIVATE KEY-----" + "a" * SIZE,
    "private keys": "-----BEGIN PRIVATE KEY-----" * (SIZE // 27),
    "handles": "@a " * (SIZE // 3),
    "obfuscated": "a (at) " * (SIZE // 7),
    "brackets": "(" * SIZE,
    "plus signs": "+1 " * (SIZE // 3),
    "marks": "1\u200b" * (SIZE // 2),
    "labels": "phone 12 " * (SIZE // 9),
    "phones": "030 901820 " * (SIZE // 11),
    "bitcoin": "1A" * (SIZE // 2),
    "titles": "Mr. A" * (SIZE // 5),
    "capitals": "My name is " + "Aa " * (SIZE // 3),
}


@pytest.fixture(scope="module")
def patient():
    """The scanner of English with a minute for each text, which slow machines need not fear."""
    found = [find_pack("universal", "universal"), find_pack("language", "en")]
    countries = found[1].countries
    found += [find_pack("country", country) for country in countries]
    return Scanner(found, countries, names=True, seconds=60)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_of_100_kb_takes_for_ever(patient, name):
    """Linear patterns take a second or two; one that backtracks takes hours."""
    assert patient.scan(HOSTILE[name]).complete


def test_the_limit_stops_a_pattern_that_backtracks(tmp_path):
    (tmp_path / "languages").mkdir()
    (tmp_path / "languages" / "tlh.hjson").write_text(
        '{kind: language\ncode: tlh\nname: K\ndetectors: [{name: a\ntype: AB\nnear: ["x"]\n'
        'reach: [1000, 1000]\npattern: (?:(?:a|a)+)+b\nscore: 1\nmatch: ["[[ab]] x"]\n'
        'no_match: ["x"]}]\nmatch: {AB: []}\nno_match: {AB: []}}',
        encoding="utf-8",
    )
    scanner = Scanner([find_pack("language", "tlh", tmp_path)], seconds=0.2)
    assert scanner.scan("ab x").complete
    assert not scanner.scan("a" * 500 + " x").complete


def test_without_phonenumbers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    monkeypatch.delitem(sys.modules, "headrace.corpus.privacy.phones")
    with pytest.raises(MissingExtraError, match=r"headrace\[corpus\]"):
        __import__("headrace.corpus.privacy.phones")
