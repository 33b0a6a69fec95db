"""Telephone numbers, by the numbering plans that the package phonenumbers knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from headrace.corpus.privacy.reserved import FICTIONAL_PHONES, is_fictional_phone, is_reserved
from headrace.corpus.privacy.verdict import NOBODYS, SURE, Verdict
from headrace.errors import MissingExtraError

try:
    import phonenumbers
except ImportError as error:
    purpose = "finding telephone numbers"
    raise MissingExtraError("phonenumbers", "corpus", purpose) from error

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_NO_PHONE = re.compile(
    rf"""
    (?:1[5-9]|20)\d{{2}}([-./\ ])\d{{1,2}}\1\d{{1,2}}(?:\ .*)?  # 2019-03-12, a time behind it
  | \d{{1,2}}([-./\ ])\d{{1,2}}\2(?:1[5-9]|20)\d{{2}}(?:\ .*)?  # 12.03.2019
  | (?:1[5-9]|20)\d{{2}}\ ?[-/ ]\ ?(?:1[5-9]|20)\d{{2}}         # 1994-1998
  | \d{{1,3}}(?:[. ]000)+                                     # 1.000.000
  | \d+\.\d+                                                  # 3.14159265
  | (?:{_OCTET}\.){{3}}{_OCTET}                                 # an address of IPv4
  | 97[89][-\ ]?\d(?:[-\ ]?\d){{9}}                             # an ISBN
    """,
    re.VERBOSE,
)
_GROUPS = re.compile(r"\d+")
_LONGEST = 15
"""Digits of a number, by E.164."""


class Number(NamedTuple):
    """A telephone number."""

    country: int
    """Calling code."""
    national: str
    """Digits behind it."""
    region: str | None
    """ISO 3166; None for numbers that belong to no country."""

    @property
    def e164(self) -> str:
        """As +CCNNN: the same for every way of writing it."""
        return f"+{self.country}{self.national}"


def phone(value: str, regions: Sequence[str]) -> Verdict | None:
    """A valid number of a country, with the calling code or of one of ``regions``.

    With a calling code a number is sure; without one it is fairly sure in the groups in which its
    country writes it, likely in other groups behind a zero, else it needs context.  Groups behind
    a number are left out.
    """
    if is_reserved(value):
        return NOBODYS
    for part in _beginnings(value):
        if _NO_PHONE.fullmatch(part):
            return None
        found = parse(part, regions)
        if found is None:
            continue
        number, grouped = found
        if is_fictional_phone(number.country, number.national):
            return Verdict(0.0, len(part))
        if part.startswith(("+", "00")):
            return Verdict(0.95, len(part))
        in_groups = len(_GROUPS.findall(part)) > 1
        behind_zero = part.lstrip("(").startswith("0") and in_groups
        return Verdict(0.7 if grouped else 0.55 if behind_zero else 0.3, len(part))
    return None


def phone_shape(value: str, regions: Sequence[str]) -> Verdict | None:
    """What context says to be a number, of whatever country: 7 to 15 digits, and no date."""
    digits = re.sub("[^0-9]", "", value)
    if is_reserved(value):
        return NOBODYS
    if not 7 <= len(digits) <= _LONGEST or len(set(digits)) < 3 or _NO_PHONE.fullmatch(value):
        return None
    for part in _beginnings(value):
        if _may_be_fictional(re.sub("[^0-9]", "", part)):
            return Verdict(0.0, len(part))
    return SURE


def _may_be_fictional(digits: str) -> bool:
    """Whether the digits are a fictional number of some country, with its code or without."""
    countries = {kept.country for ranges in FICTIONAL_PHONES.values() for kept in ranges}
    return is_fictional_phone(1, digits.lstrip("0")) or any(
        is_fictional_phone(country, digits.removeprefix(str(country)).lstrip("0"))
        for country in countries
        if digits.startswith(str(country))
    )


def _beginnings(value: str) -> Iterator[str]:
    """The text, and without its last group or its last two."""
    yield value
    end = len(value)
    for _ in range(2):
        end = value.rfind(" ", 0, end)
        if end < 0:
            return
        part = value[:end].rstrip(" ./(-")
        if len(_GROUPS.findall(part)) < 2:
            return
        yield part


def parse(value: str, regions: Sequence[str]) -> tuple[Number, bool] | None:
    """The number that a text is, and whether it is written in its country's groups.

    Of several countries that have such a number it is the first that writes it so, else the first.

    Args:
        value: folded text.
        regions: countries (ISO 3166) whose numbers need no calling code, the likeliest first.
    """
    digits = re.sub("[^0-9]", "", value)
    if not 7 <= len(digits) <= _LONGEST + 2:
        return None
    if value.startswith(("+", "00")):
        return _parsed("+" + value.lstrip("+0"), None)
    valid = None
    for region in regions:
        found = _parsed(value, region) if _may_be(digits, region) else None
        if found is not None and found[1]:
            return found
        valid = valid or found
    return valid


def _may_be(digits: str, region: str) -> bool:
    """Whether the digits fit the numbering plan: a quick look before the slow one."""
    plan = _plan(region)
    if plan is None:
        return False
    pattern, prefix = plan
    if pattern.fullmatch(digits):
        return True
    return bool(prefix and digits.startswith(prefix) and pattern.fullmatch(digits[len(prefix) :]))


@cache
def _plan(region: str) -> tuple[re.Pattern[str], str | None] | None:
    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if metadata is None:
        return None
    return re.compile(metadata.general_desc.national_number_pattern), metadata.national_prefix


def _parsed(value: str, region: str | None) -> tuple[Number, bool] | None:
    try:
        parsed: Any = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return None
    if region is None:
        if not phonenumbers.is_valid_number(parsed):
            return None
        region = phonenumbers.region_code_for_number(parsed)
    elif not phonenumbers.is_valid_number_for_region(parsed, region):
        return None
    national = phonenumbers.national_significant_number(parsed)
    return Number(parsed.country_code, national, region), _is_grouped(value, parsed)


def _is_grouped(value: str, parsed: Any) -> bool:
    groups = _GROUPS.findall(value)
    if len(groups) < 2:
        return False
    formats = phonenumbers.PhoneNumberFormat
    for style in (formats.NATIONAL, formats.INTERNATIONAL):
        usual = _GROUPS.findall(phonenumbers.format_number(parsed, style))
        if style == formats.INTERNATIONAL:
            usual = usual[1:]
        if groups == usual:
            return True
    return False
