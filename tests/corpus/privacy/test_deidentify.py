"""Modes: nothing private is left, the spans are right, and a second run finds nothing."""

import importlib
import json
import re
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from headrace.corpus.privacy import Key, deidentify, find, subject_keys
from headrace.corpus.privacy.surrogates import normalised, pseudonym
from headrace.errors import CorpusError

KEY = Key(b"k" * 32)
MODES = ("mask", "hash", "pseudonym")
WORDS = {
    "en": ["the", "lamp", "phone", "card", "call", "SSN", "password", "patient ID", "via", "#x"],
    "de": ["die", "Lampe", "Telefon", "Karte", "Steuer-ID", "Passwort:", "Konto", "Herr"],
    "es": ["la", "lámpara", "teléfono", "DNI", "NHC:", "tarjeta", "cuenta"],
    "hi": ["दीपक", "फ़ोन", "आधार", "पैन", "कार्ड"],
    "zh": ["灯", "电话", "身份证", "密码：", "卡"],
}


def digits(count):
    return st.text("0123456789", min_size=count, max_size=count)


EMAILS = st.from_regex(
    r"[a-fh-z][a-z0-9.]{0,8}[a-z0-9]@[a-z]{2,9}\.(org|de|com\.br)", fullmatch=True
)
CARDS = digits(11).map(lambda tail: (number := "4929" + tail) + luhn.calc_check_digit(number))
IBANS = digits(18).map(lambda bban: f"DE{iban.calc_check_digits('DE00' + bban)}{bban}")
PHONES = digits(6).map(lambda tail: f"+49 30 9{tail}")
ADDRESSES = st.integers(0x56000001, 0x56FFFFFE).map(lambda number: str(IPv4Address(number)))
PRIVATE = st.one_of(EMAILS, CARDS, IBANS, PHONES, ADDRESSES).filter(
    lambda text: (
        ".." not in text and not re.search(r"(\d)\1{9}", text) and find(text, "de").findings
    )
)


@st.composite
def texts(draw, language):
    """A text in which words of a language, noise and private values stand in lines; the values."""
    noise = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=6)
    parts, values = [], []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.integers(0, 2))
        if kind == 0:
            values.append(draw(PRIVATE))
            parts.append(values[-1])
        else:
            parts.append(draw(st.sampled_from(WORDS[language]) if kind == 1 else noise))
    return draw(st.sampled_from(["\n", " \n "])).join(parts), values


CASES = st.sampled_from(sorted(WORDS)).flatmap(
    lambda language: st.tuples(st.just(language), texts(language))
)
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@OFTEN
@given(case=CASES, mode=st.sampled_from(MODES))
def test_no_value_is_left_in_text_or_record(case, mode):
    language, (text, values) = case
    result = deidentify(text, language, mode, key=KEY)
    record = json.dumps(result.to_json(), ensure_ascii=False)
    scan = json.dumps(find(text, language).to_json(), ensure_ascii=False)
    for value in values:
        assert value not in result.text
        assert value not in record
        assert value not in scan


@OFTEN
@given(case=CASES, mode=st.sampled_from(MODES))
@example(case=("en", ("phone 86.121.97.248 4111111111111111 5551234", [])), mode="mask")
@example(case=("en", ("call +1 212 736 5000 467 3395", [])), mode="pseudonym")
@example(case=("es", ("tel. 071 123 4567 2606:2800:220:1::1946", [])), mode="pseudonym")
@example(case=("es", ("DNI\n+49 30 9000000\nla", [])), mode="pseudonym")
def test_a_second_run_finds_nothing(case, mode):
    language, (text, _) = case
    result = deidentify(text, language, mode, key=KEY)
    again = deidentify(result.text, language, mode, key=KEY)
    assert again.text == result.text
    assert not again.counts
    assert not again.subject_keys


@OFTEN
@given(text=st.text(), mode=st.sampled_from(MODES))
def test_any_text_has_a_result_and_a_second_run_finds_nothing(text, mode):
    result = deidentify(text, "de", mode, key=KEY)
    assert result.reason is None
    assert not find(result.text, "de").findings


@OFTEN
@given(case=CASES, mode=st.sampled_from(MODES))
def test_spans_are_those_of_the_new_text_and_all_else_is_as_it_was(case, mode):
    language, (text, _) = case
    result = deidentify(text, language, mode, key=KEY)
    end, rest = 0, []
    for span in result.spans:
        assert end <= span.start < span.end <= len(result.text)
        written = result.text[span.start : span.end]
        if mode == "mask":
            assert written == f"<{span.type}>"
        if mode == "hash":
            assert re.fullmatch(f"<{span.type}:[a-p]{{12}}>", written)
        assert span.action == mode or (mode, span.action) == ("pseudonym", "hash")
        rest.append(result.text[end : span.start])
        end = span.end
    rest.append(result.text[end:])
    place = 0
    for part in rest:  # what is between spans stands in the old text, in the same order
        place = text.index(part, place) + len(part)


@OFTEN
@given(value=EMAILS, other=EMAILS, language=st.sampled_from(sorted(WORDS)))
def test_the_same_value_has_the_same_pseudonym_everywhere(value, other, language):
    first = deidentify(f"to {value}", "en", "pseudonym", key=KEY).text
    second = deidentify(f"to {value.upper()}", language, "pseudonym", key=KEY).text
    assert first == second
    assert (deidentify(f"to {other}", "en", "pseudonym", key=KEY).text == first) == (value == other)
    assert deidentify(f"to {value}", "en", "pseudonym", key=Key(b"l" * 32)).text != first


PRONE = ["EMAIL", "PHONE", "IP_ADDRESS", "MAC_ADDRESS", "CREDIT_CARD", "IBAN", "NATIONAL_ID",
         "TAX_ID", "USER_NAME", "PASSWORD", "BANK_ACCOUNT", "PERSON"]  # fmt: skip


@OFTEN
@given(
    value=st.one_of(PRIVATE, digits(11), st.from_regex(r"[A-Z]{2}[0-9]{8}[A-Z]", fullmatch=True)),
    type_=st.sampled_from(PRONE),
    language=st.sampled_from(sorted(WORDS)),
    word=st.sampled_from(["phone", "Telefon", "SSN", "card", "DNI", "RT", "account"]),
)
def test_a_pseudonym_is_never_a_finding(value, type_, language, word):
    made = pseudonym(type_, normalised(type_, value), KEY)
    prefix = "@" if type_ == "USER_NAME" else ""
    assert not find(f"{word} {prefix}{made} hi", language).findings


def test_pseudonyms_look_real_and_are_reserved():
    text = (
        "Mail anna@firma.de, call +44 20 7946 1234 or +49 30 901820 or +33 6 12 34 56 78 or "
        "+34 913 368 000, from 86.121.97.248 and 2a00:1450:4001:82a::200e, "
        "mac 3c:22:fb:9a:01:7e, card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, "
        "SSN 536-90-4399, password: W!nter2024"
    )
    result = deidentify(text, "en", "pseudonym", key=KEY)
    written = {}
    for span in result.spans:
        written.setdefault(span.type, []).append(result.text[span.start : span.end])
    forms = {
        "EMAIL": r"user-[a-p]{12}@example\.org",
        "PHONE": r"\+44 7700 900\d{3}|\+49 \d\d \d{8}|\+33 (6 39 98|1 99 00)( \d\d){2}"
        r"|\+1 \d{3} 555 01\d\d",
        "IP_ADDRESS": r"(192\.0\.2|198\.51\.100|203\.0\.113)\.\d+|2001:db8::[0-9a-f:]+",
        "MAC_ADDRESS": r"00:00:5e:00:53:[0-9a-f]{2}",
        "CREDIT_CARD": r"0000\d{12}",
        "IBAN": r"DE000000\d{14}",
        "NATIONAL_ID": r"0000\d{5}",
        "PASSWORD": r"<PASSWORD:[a-p]{12}>",
    }
    assert written.keys() == forms.keys()
    assert len(written["PHONE"]) == 4
    for type_, found in written.items():
        assert all(re.fullmatch(forms[type_], one) for one in found), (type_, found)
    assert not iban.is_valid(written["IBAN"][0])


def test_a_document_is_dropped_and_nothing_of_it_is_kept():
    result = deidentify("mail anna@firma.de", "en", "drop")
    assert result.text is None
    assert result.spans == ()
    assert result.reason == "private information: EMAIL"
    assert result.counts == {"EMAIL": 1}
    assert deidentify("nothing here", "en", "drop").text == "nothing here"


def test_types_have_modes_of_their_own():
    text = "anna@firma.de 86.121.97.248 4111111111111111"
    result = deidentify(text, "en", "mask", key=KEY, modes={"IP_ADDRESS": "pseudonym"})
    assert re.fullmatch(r"<EMAIL> (192|198|203)[0-9.]+ <CREDIT_CARD>", result.text)
    result = deidentify(text, "en", modes={"CREDIT_CARD": "drop"})
    assert result.reason == "private information: CREDIT_CARD"


def test_wrong_modes_and_a_key_that_is_needed_are_told_together():
    with pytest.raises(CorpusError) as caught:
        deidentify("a", "en", "hash", modes={"EMAIL": "blur"})
    assert [problem.where for problem in caught.value.problems] == ["mode", "mode of EMAIL"]


def test_a_mask_is_no_context():
    """Although it is the very word."""
    masked = "<PHONE> 467 3395 <PHONE:abcdefghijkl> 467 3396 <CREDIT_CARD> 30569309025904"
    assert deidentify(masked, "en").text == masked


def test_what_context_says_in_one_place_holds_in_all():
    result = deidentify("Phone: 467 3395. Again 467 3395, not A467 3395.", "en")
    assert result.text == "Phone: <PHONE>. Again <PHONE>, not A467 3395."


@pytest.mark.parametrize(
    ("text", "language", "request_"),
    [
        ("Mail: Anna.Schmidt@Firma.de", "de", "anna.schmidt@firma.de"),
        ("anna.schmidt (at) firma (dot) de", "en", "anna.schmidt@firma.de"),
        ("Tel. 030 901820", "de", "+49 30 901820"),
        ("Tel. 030/90 18 20", "de", "0049 30 901820"),
        ("+٤٩ ٣٠ ٩٠١٨٢٠", "ar", "+49 30 901820"),
        ("Phone: 030 9018 20", "en", "+49 30 901820"),
        ("फ़ोन +91 ९८७६५ ४३२१०", "hi", "+91 98765 43210"),
    ],
)
def test_a_request_of_a_person_finds_the_documents(text, language, request_):
    """However the address was written in them, and in every mode."""
    asked = set(subject_keys(request_, KEY))
    for mode in MODES:
        result = deidentify(text, language, mode, key=KEY)
        assert result.subject_keys
        assert asked & set(result.subject_keys)
    assert not asked & set(deidentify(text, language, "mask", key=Key(b"o" * 32)).subject_keys)
    assert not deidentify(text, language).subject_keys


def test_a_text_that_cannot_be_searched_to_its_end_is_not_handed_out(monkeypatch):
    # the function hides its module
    module = importlib.import_module("headrace.corpus.privacy.deidentify")
    scanning = importlib.import_module("headrace.corpus.privacy.scan")
    slow = scanning.Scanner([scanning.find_pack("universal", "universal")], seconds=0.0)
    monkeypatch.setattr(module, "scanner_for", lambda *_: slow)
    result = deidentify("mail anna@firma.de", "en")
    assert result.text is None
    assert "too long" in result.reason
