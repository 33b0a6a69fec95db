"""The packs: every example of every one, and what is said about packs that are wrong."""

import re
import shutil
from pathlib import Path

import pytest

from headrace.corpus.privacy.pack import BUILT_IN, all_packs, find_pack, parts_of
from headrace.corpus.privacy.scan import find, scanner_for
from headrace.corpus.privacy.vectors import check_packs
from headrace.errors import CorpusError

CODES = [(pack.kind, pack.code) for pack in all_packs()]

LANGUAGES = {
    "ar", "bn", "de", "en", "es", "fa", "fi", "fr", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt",
    "ru", "sv", "tr", "uk", "zh",
}  # fmt: skip
COUNTRIES = {
    "BR", "CN", "DE", "ES", "FI", "FR", "GB", "ID", "IN", "IT", "JP", "KR", "NL", "PL", "PT", "RU",
    "SE", "TR", "UA", "US",
}  # fmt: skip


@pytest.fixture(scope="module")
def checked():
    return {(one.pack.kind, one.pack.code): one for one in check_packs()}


@pytest.mark.parametrize(("kind", "code"), CODES, ids=lambda part: part)
def test_every_example_of_a_pack_comes_out_as_it_says(checked, kind, code):
    one = checked[kind, code]
    assert one.examples > 0
    assert not one.failures, "\n".join(map(str, one.failures))


def test_there_are_packs_of_the_languages_that_are_promised():
    found = {code for kind, code in CODES if kind == "language"}
    assert found >= LANGUAGES
    countries = {code for kind, code in CODES if kind == "country"}
    assert countries >= COUNTRIES


def test_identifiers_of_countries_are_validated():
    """All but those that have no checksum: their form and their context must do."""
    without = {
        f"{pack.code}.{detector.name}"
        for pack in all_packs()
        for detector in pack.detectors
        if pack.kind == "country" and not detector.validator
    }
    assert without == {"GB.nino", "KR.rrn_new", "RU.passport"}


@pytest.mark.parametrize(
    ("tag", "parts"),
    [("de", ("de", None)), ("pt-BR", ("pt", "BR")), ("zh-Hant-TW", ("zh", "TW")),
     ("EN-us", ("en", "US")), ("x", ("x", None)), ("ast", ("ast", None))],
)  # fmt: skip
def test_a_tag_has_a_language_and_a_region(tag, parts):
    assert parts_of(tag) == parts


def test_a_language_without_a_pack_is_told_with_every_scan():
    scan = find("mail a@b.org", "tlh")
    assert [finding.type for finding in scan.findings] == ["EMAIL"]
    (warning,) = scan.warnings
    assert warning.language == "tlh"
    assert "no pack" in warning.what
    assert find("a", "de").warnings == ()
    (warning,) = find("a", "es-BO").warnings
    assert "BO" in warning.what


def test_the_region_of_a_tag_comes_first():
    assert scanner_for("pt").regions[0] == "BR"
    assert scanner_for("pt-PT").regions[0] == "PT"


OWN = r"""
{
  kind: language
  code: tlh
  name: Klingon
  countries: ["DE"]
  topics: {phone: ["ghogh"]}
  detectors: [{
    name: warrior
    type: WARRIOR_ID
    digits: 4
    pattern: (?<!\w)QO-\d{4}(?!\w)
    score: 0.9
    match: ["Qapla' [[QO-1234]]"]
    no_match: ["QO-12345"]
  }]
  match: {PHONE: ["ghogh [[030 901820]]"]}
  no_match: {PHONE: ["ghogh 12.03.2019"]}
}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "languages").mkdir()
    (tmp_path / "languages" / "tlh.hjson").write_text(OWN, encoding="utf-8")
    return tmp_path


def test_a_speaker_adds_a_language_without_code(folder):
    (one,) = [one for one in check_packs(folder) if one.pack.code == "tlh"]
    assert one.examples == 4
    assert not one.failures
    scan = find("QO-1234", "tlh", packs=folder)
    assert [(found.type, found.start, found.end) for found in scan.findings] == [
        ("WARRIOR_ID", 0, 7)
    ]
    assert not scan.warnings


def test_the_pack_that_the_documentation_shows_is_one(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```hjson\n(.*?)```", page, re.DOTALL)
    (tmp_path / "languages").mkdir()
    (tmp_path / "languages" / "oc.hjson").write_text(block, encoding="utf-8")
    (one,) = [one for one in check_packs(tmp_path) if one.pack.code == "oc"]
    assert one.examples == 4
    assert not one.failures, "\n".join(map(str, one.failures))


def test_a_wrong_example_is_a_failure(folder):
    path = folder / "languages" / "tlh.hjson"
    path.write_text(OWN.replace("[[QO-1234]]", "[[QO-12345]]"), encoding="utf-8")
    (one,) = [one for one in check_packs(folder) if one.pack.code == "tlh"]
    (failure,) = one.failures
    assert (failure.pack, failure.detector) == ("tlh", "warrior")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("score: 0.9", "score: 0.4", "warrior: it would never find anything"),
        ("score: 0.9", "score: 9", "warrior: score: input should be less than or equal to 1"),
        ("digits: 4", "digits: 4\n    colour: red", "warrior: colour: extra inputs"),
        (
            "digits: 4",
            "digits: 4\n    validator: stdnum:de.nothing",
            "no validator stdnum:",
        ),
        ("digits: 4", 'near: ["QO"]', "near is written in lower case"),
        (r"QO-\d{4}", r"QO-(\d{4}", "not a regular expression"),
        ("[[QO-1234]]", "QO-1234", "mark what must be found"),
        ("WARRIOR_ID", "warrior id", "warrior: type"),
        ("code: tlh", "code: tlx", "the pack is another one"),
        ("kind: language", "kind: [", "cannot be read as Hjson"),
        ("match: {PHONE", "xmatch: {PHONE", "xmatch"),
    ],
)
def test_what_is_wrong_with_a_pack_is_said(folder, old, new, says):
    path = folder / "languages" / "tlh.hjson"
    assert old in OWN
    path.write_text(OWN.replace(old, new), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"tlh\.hjson") as caught:
        check_packs(folder)
    assert says in str(caught.value)


def test_problems_of_all_packs_are_listed(folder):
    (folder / "countries").mkdir()
    (folder / "countries" / "XX.hjson").write_text("{kind: country}", encoding="utf-8")
    path = folder / "languages" / "tlh.hjson"
    path.write_text(OWN.replace("0.9", "9"), encoding="utf-8")
    with pytest.raises(CorpusError) as caught:
        check_packs(folder)
    assert {"XX.hjson", "tlh.hjson"} <= {
        problem.where.split(":")[0].rsplit("/")[-1] for problem in caught.value.problems
    }


def test_a_pack_of_the_caller_takes_the_place_of_a_built_in_one(tmp_path):
    (tmp_path / "languages").mkdir()
    path = tmp_path / "languages" / "sv.hjson"
    shutil.copy(BUILT_IN / "languages" / "sv.hjson", path)
    text = path.read_text(encoding="utf-8").replace("name: Swedish", "name: My Swedish")
    path.write_text(text, encoding="utf-8")
    assert find_pack("language", "sv", tmp_path).name == "My Swedish"
    assert find_pack("language", "sv").name == "Swedish"


def test_a_folder_of_packs_must_be_one(tmp_path):
    with pytest.raises(CorpusError, match="not a folder of packs"):
        find("a", "de", packs=tmp_path / "nowhere")
