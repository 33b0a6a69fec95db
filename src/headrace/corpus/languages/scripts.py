"""Which scripts a text is written in, as ISO 15924 codes.

The script of a character is its Unicode property ``Script``; only letters and their marks count.
Scripts that are always written together are one: ``Jpan`` is Han with kana, ``Kore`` Hangul with
Han.  Han alone is ``Hans`` or ``Hant`` where the characters tell, else ``Hani``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import regex

_CODES = """
Latn Cyrl Arab Hani Deva Beng Grek Hebr Hang Hira Kana Thai Taml Telu Geor Armn Gujr Knda
Mlym Guru Orya Sinh Mymr Khmr Laoo Tibt Ethi Mong Thaa Syrc Nkoo Tfng Cher Cans Bopo Yiii
Copt Adlm Java Bali Sund Bugi Cham Kali Lepc Limb Mtei Olck Saur Sylo Tale Talu Lana Tavt
Vaii Bamu Batk Buhd Hano Tagb Tglg Rjng Lisu Plrd Hmng Hmnp Cakm Newa Tirh Mahj Gong Gonm
Nagm Rohg Wara Sora Shrd Takr Khoj Sind Modi Gran Sidd Kthi Mroo Bass Mend Wcho Toto Osge
Dsrt Shaw Elba Aghb Avst Brah Cari Cprt Cpmn Xsux Egyp Elym Glag Goth Hatr Armi Phli Prti
Phlp Ital Linb Lina Lyci Lydi Mand Mani Maka Marc Medf Merc Mero Mult Narb Nbat Nshu Ogam
Hung Orkh Ougr Osma Palm Pauc Perm Phag Phnx Samr Sarb Sgnw Soyo Tang Ugar Vith Yezi Zanb
Bhks Chrs Diak Dogr Dupl Kits Nand Sogd Sogo Tnsa Xpeo Khar
"""
"""Codes of the Unicode scripts, living ones of many speakers first."""

_SCRIPTS = [(code, regex.compile(rf"\p{{Script={code}}}")) for code in _CODES.split()]
_NO_ASCII_LETTERS = {number: None for number in range(128) if not chr(number).isalpha()}
_EAST_ASIAN = frozenset({"Hani", "Hang", "Hira", "Kana"})
_KANA_SHARE = 0.1
"""Japanese prose has about half kana; Chinese that quotes a Japanese name next to none."""
_HANGUL_SHARE = 0.1
_CLEAR = 4
"""Of the characters that tell, one form of Chinese must have this many times the other's."""


@lru_cache(maxsize=1 << 16)
def script_of_character(character: str) -> str | None:
    """The code of a letter or mark; None for everything else, and for what all scripts share."""
    if not (character.isalpha() or unicodedata.category(character).startswith("M")):
        return None
    return next((code for code, pattern in _SCRIPTS if pattern.match(character)), None)


def script_counts(text: str) -> Counter[str]:
    """Letters by script, as Unicode has them: ``Hani``, ``Hira``, ``Kana`` and ``Hang`` apart."""
    counts: Counter[str] = Counter()
    if text.isascii():
        letters = len(text.translate(_NO_ASCII_LETTERS))
        if letters:
            counts["Latn"] = letters
        return counts
    for character, count in Counter(text).items():
        script = script_of_character(character)
        if script is not None:
            counts[script] += count
    return counts


def main_script(text: str, counts: Mapping[str, int] | None = None) -> str | None:
    """The script of most letters; None for a text without letters."""
    counts = script_counts(text) if counts is None else counts
    if _EAST_ASIAN.isdisjoint(counts):
        return max(counts, key=lambda code: (counts[code], code)) if counts else None
    han, hangul = counts.get("Hani", 0), counts.get("Hang", 0)
    kana = counts.get("Hira", 0) + counts.get("Kana", 0)
    joined = {code: count for code, count in counts.items() if code not in _EAST_ASIAN}
    east_asian = han + hangul + kana
    if kana and kana >= _KANA_SHARE * (han + kana) and kana >= hangul:
        joined["Jpan"] = east_asian
    elif hangul and hangul >= _HANGUL_SHARE * east_asian:
        joined["Kore"] = east_asian
    elif east_asian:
        joined["Hani"] = east_asian
    if not joined:
        return None
    script = max(joined, key=lambda code: (joined[code], code))
    return form_of_chinese(text) if script == "Hani" else script


def form_of_chinese(text: str) -> str:
    """``Hans``, ``Hant``, or ``Hani`` where too few characters tell.

    A character tells if it is in one of the national standards and not in the other: GB 2312 of
    1980 has the simplified characters, Big5 of 1984 the traditional ones.
    """
    forms: Counter[str] = Counter()
    for character, count in Counter(text).items():
        form = _form(character)
        if form is not None:
            forms[form] += count
    simplified, traditional = forms["Hans"], forms["Hant"]
    if simplified > _CLEAR * traditional:
        return "Hans"
    return "Hant" if traditional > _CLEAR * simplified else "Hani"


def same_script(one: str, other: str) -> bool:
    """Whether two codes name one script; ``Hani`` has the forms of Chinese in it."""
    return _group(one) == _group(other)


def _group(code: str) -> str:
    return "Hani" if code in ("Hans", "Hant") else code


@lru_cache(maxsize=1 << 15)
def _form(character: str) -> str | None:
    if script_of_character(character) != "Hani":
        return None
    simplified, traditional = _encodes(character, "gb2312"), _encodes(character, "big5")
    if simplified == traditional:
        return None
    return "Hans" if simplified else "Hant"


def _encodes(character: str, standard: str) -> bool:
    try:
        character.encode(standard)
    except UnicodeEncodeError:
        return False
    return True
