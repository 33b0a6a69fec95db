"""The normal form of text: what it promises for any text, and single rules by example."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.documents import Document, Reject, content_hash
from headrace.corpus.normalise import Normalise, NormaliseSettings, normalise

AWKWARD = (
    "\r\n\x0b\x0c\x85\u2028\u2029\ufeff\x00\x07\x7f\x9f\u206a\ufdd0\ufff9\U0001fffe\ud83d\ude00\udfff"
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069 \t\u3000e\u0301\u1100\u1161\u09af\u09bc"
)
any_text = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=60)
REMOVED = ("byte order marks", "control characters", "direction controls", "white space")


def bare(text):
    """What no rule may lose: all but white space, controls and marks, canonically decomposed."""
    kept = [
        character
        for character in text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if not character.isspace()
        and unicodedata.category(character) not in ("Cc", "Cn")
        and not 0x202A <= ord(character) <= 0x202E
        and not 0x2066 <= ord(character) <= 0x206F
        and not 0xFFF9 <= ord(character) <= 0xFFFB
        and character != "\ufeff"
    ]
    return unicodedata.normalize("NFD", "".join(kept))


@given(any_text)
def test_a_second_time_changes_nothing(text):
    first = normalise(text)
    again = normalise(first.text)
    assert again.text == first.text
    assert set(again.changes) <= {"direction controls kept"}


@given(any_text)
def test_the_text_is_nfc_and_encodes(text):
    result = normalise(text).text
    assert unicodedata.is_normalized("NFC", result)
    result.encode("utf-8")
    assert all(line == line.rstrip() for line in result.split("\n"))
    assert not any(unicodedata.category(one) == "Cc" and one not in "\n\t" for one in result)


@given(any_text)
def test_nothing_but_what_the_rules_name_is_lost(text):
    assert bare(normalise(text).text) == bare(text)


@given(st.text(st.sampled_from(AWKWARD.replace("\ud83d\ude00\udfff", "") + "ab"), max_size=60))
def test_the_counts_are_what_was_removed(text):
    result = normalise(text)
    shorter = sum(result.changes.get(kind, 0) for kind in REMOVED) + text.count("\r\n")
    again = unicodedata.normalize("NFD", result.text)
    assert len(unicodedata.normalize("NFD", text)) - len(again) == shorter


@given(any_text)
def test_no_change_is_silent(text):
    result = normalise(text)
    changed = {kind for kind in result.changes if kind != "direction controls kept"}
    assert bool(changed) == (result.text != text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\u202bשלום\u202c!", "\u202bשלום\u202c!"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\u202c\u2069b", "ab"),
        ("\u202ea\nb\u202c", "a\nb"),
        ("\u2067\u202ex\u2069", "\u2067x\u2069"),
        ("\u2066a\u202cb\u2069", "\u2066ab\u2069"),
        ("\u200fא\u200e", "\u200fא\u200e"),
    ],
)
def test_controls_of_direction_stay_where_they_are_paired(text, kept):
    assert normalise(text).text == kept


def test_lone_surrogates_are_replaced_and_pairs_joined():
    result = normalise("\ud83d\ude00 \udc80")
    assert result.text == "\U0001f600 \ufffd"
    assert result.changes == {"surrogates": 2}


def test_long_white_space_takes_linear_time():
    text = (" " * 1_000_000 + "x") * 3
    assert normalise(text).text == text


def step(**settings):
    return Normalise(NormaliseSettings(**settings))


def document(text, **fields):
    fields = {"id": "0" * 32, "source": "s", "key": "k", "content_hash": ""} | fields
    return Document(text=text, **fields)


def test_the_step_records_changes_and_hashes_the_normal_form():
    result = step()(document("cafe\u0301\r\n", title=" A\r\nB ", metadata={"page": 3}))
    assert (result.text, result.title) == ("café", "A B")
    assert result.content_hash == content_hash("café")
    assert result.metadata == {
        "page": 3,
        "normalised": {"composed": 1, "line ends": 1, "white space": 1},
    }


@pytest.mark.parametrize("text", ["", " \r\n\t", "\ufeff\x00"])
def test_a_document_without_text_is_rejected(text):
    result = step()(document(text, offset=12))
    assert result == Reject("k", "empty", "no text", 12)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("schÃ¶n â€” MÃ¼nchen", "schön — München"),
        ("РџСЂРёРІРµС‚ РјРёСЂ", "Привет мир"),
    ],
)
def test_wrongly_decoded_lines_are_repaired_on_request(wrong, right):
    pytest.importorskip("ftfy")
    text = f"«café» — Российская Федерация\n{wrong}"
    assert step()(document(text)).text == text
    result = step(repair_encoding=True)(document(text))
    assert result.text == f"«café» — Российская Федерация\n{right}"
    assert result.metadata["normalised"] == {"repaired lines": 1}
