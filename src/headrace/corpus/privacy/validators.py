"""What a match of a pattern must also be: checksums, ranges, entropy.

A validator gets the folded text of a match and the countries of its language, and says how sure
the match is and how much of it belongs to it.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import ipaddress
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from headrace.corpus.privacy.phones import phone, phone_shape
from headrace.corpus.privacy.verdict import SURE, Verdict
from headrace.errors import MissingExtraError

Validator = Callable[[str, Sequence[str]], Verdict | None]

STDNUM = "stdnum:"


def card(value: str, regions: Sequence[str]) -> Verdict | None:
    """A payment card: Luhn's checksum, and a length that the issuer of the first digits uses.

    Without context only 15 and 16 digits count: others are rare, and other numbers are of
    that length.
    """
    digits = re.sub(r"[^0-9]", "", value)
    if not _luhn(digits) or len(set(digits)) == 1:
        return None
    for issuer in _ISSUERS:
        if len(digits) in issuer.lengths and any(
            low <= int(digits[: len(str(low))]) <= high for low, high in issuer.ranges
        ):
            return SURE if len(digits) in (15, 16) else Verdict(0.3)
    return None


class _Issuer(NamedTuple):
    lengths: range | tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]


_ISSUERS = (
    _Issuer((13, 16, 19), ((4, 4),)),  # Visa
    _Issuer((16,), ((51, 55), (2221, 2720))),  # Mastercard
    _Issuer((15,), ((34, 34), (37, 37))),  # American Express
    _Issuer(range(14, 20), ((300, 305), (3095, 3095), (36, 36), (38, 39))),  # Diners Club
    _Issuer(range(16, 20), ((6011, 6011), (644, 649), (65, 65), (62, 62))),  # Discover, UnionPay
    _Issuer(range(16, 20), ((3528, 3589),)),  # JCB
    _Issuer((15,), ((1800, 1800), (2131, 2131))),  # JCB, old
    _Issuer(range(16, 20), ((2200, 2204),)),  # Mir
    _Issuer((16,), ((60, 60), (81, 82), (508, 508), (353, 353), (356, 356))),  # RuPay
    _Issuer((16,), ((9792, 9792),)),  # Troy
    _Issuer(range(12, 20), ((5018, 5018), (5020, 5020), (5038, 5038), (5893, 5893))),  # Maestro
    _Issuer(range(12, 20), ((6304, 6304), (6759, 6759), (6761, 6763), (6390, 6390))),  # Maestro
)


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return digits.isdigit() and (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def iban(value: str, regions: Sequence[str]) -> Verdict | None:
    """An IBAN: length and form of its country, both checksums; what follows it is left out."""
    length = _iban_lengths().get(value[:2].upper())
    if length is None:
        return None
    end = 0
    for _ in range(length):
        while end < len(value) and value[end] in " -":
            end += 1
        end += 1
    if end > len(value) or (end < len(value) and value[end].isalnum()):
        return None
    return Verdict(None, end) if _stdnum("iban").is_valid(value[:end]) else None


@cache
def _iban_lengths() -> dict[str, int]:
    """Country -> characters of an IBAN."""
    registry = _stdnum("numdb").get("iban")
    lengths = {}
    for country in (first + second for first in _LETTERS for second in _LETTERS):
        form = registry.info(country)[0][1].get("bban")
        if form:
            lengths[country] = 4 + sum(map(int, re.findall(r"\d+", form)))
    return lengths


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def public_ip(value: str, regions: Sequence[str]) -> Verdict | None:
    """An address of the open internet; private, loopback and documentation ranges are nobody's."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    return SURE if address.is_global and not address.is_multicast else None


def mac(value: str, regions: Sequence[str]) -> Verdict | None:
    """A MAC address of a device, not a group address, nor one for documentation."""
    octets = bytes.fromhex(re.sub(r"[^0-9A-Fa-f]", "", value))
    documented = octets[:5] == bytes.fromhex("00005e0053")
    return None if octets[0] & 1 or not any(octets) or documented else SURE


def email(value: str, regions: Sequence[str]) -> Verdict | None:
    """A mail address of a person or an office; not ``git@``, not the name of an image."""
    local, _, domain = value.rpartition("@")
    if len(local) > 64 or len(domain) > 253 or local == "git" or ".." in value:
        return None
    if re.search(r"^\d+x\.\w+$|\.(?:png|jpe?g|gif|svg|webp)$", domain.lower()):
        return None
    return SURE


def secret(value: str, regions: Sequence[str]) -> Verdict | None:
    """Something that a machine made up: long, of letters and digits, and with high entropy.

    Shannon's entropy of its characters must be at least 3.5 bits (hexadecimal ones: 3); English
    words have less at these lengths, and no digits.
    """
    kinds = sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    if kinds < 2 or not re.search(r"[0-9]", value) or _is_placeholder(value):
        return None
    counts = Counter(value)
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return SURE if entropy >= (3 if re.fullmatch(r"[0-9A-Fa-f]+", value) else 3.5) else None


def password(value: str, regions: Sequence[str]) -> Verdict | None:
    """What stands behind "password": letters with digits or signs, and no example of one."""
    kinds = sum(bool(re.search(kind, value)) for kind in (r"[^\W\d_]", "[0-9]", r"[!@#$%^&*?~+=_]"))
    wrong = value.startswith(("-", "(", "[", "/")) or _is_placeholder(value)
    return SURE if kinds >= 2 and not wrong else None


def _is_placeholder(value: str) -> bool:
    return _PLACEHOLDER.search(value) is not None


_PLACEHOLDER = re.compile(
    r"(?i)example|\{\{|\}\}|x{4}|\*{3}|\.\.\.|placeholder|change_?me|your[_-]|<|\$\{|%\w"
)


def json_web_token(value: str, regions: Sequence[str]) -> Verdict | None:
    """A token whose header is the base64 of a JSON object that names an algorithm."""
    head = value.split(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return None
    return SURE if isinstance(header, dict) and "alg" in header else None


def user_name(value: str, regions: Sequence[str]) -> Verdict | None:
    """A name of a user behind an @ that is no word of a programming language."""
    return None if value.lower() in _NO_USERS or not re.search("[A-Za-z]", value) else SURE


_NO_USERS = frozenset({
    "all", "app", "before", "channel", "charset", "component", "container", "decorator",
    "deprecated", "everyone", "example", "extend", "font", "here", "import", "include",
    "inheritdoc", "inject", "interface", "internal", "keyframes", "layer", "link", "media",
    "mixin", "namespace", "nonnull", "nullable", "override", "page", "param", "private",
    "property", "protected", "public", "return", "returns", "see", "since", "staticmethod",
    "supports", "suppresswarnings", "team", "test", "throws", "todo", "types", "url", "user",
    "username", "version",
})  # fmt: skip


def labelled(value: str, regions: Sequence[str]) -> Verdict | None:
    """A number that a label before it says to be one; a date is none."""
    if not re.search(r"\d.*\d.*\d", value):
        return None
    return None if re.fullmatch(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}", value) else SURE


_OWN: dict[str, Validator] = {
    "card": card,
    "email": email,
    "iban": iban,
    "json_web_token": json_web_token,
    "labelled": labelled,
    "mac": mac,
    "password": password,
    "phone": phone,
    "phone_shape": phone_shape,
    "public_ip": public_ip,
    "secret": secret,
    "user_name": user_name,
}


def knows_validator(name: str) -> bool:
    """Whether a pack may name it.

    Raises:
        MissingExtraError: without python-stdnum, where that is what it names.
    """
    if name.startswith(STDNUM):
        try:
            return hasattr(_stdnum(name.removeprefix(STDNUM)), "is_valid")
        except ModuleNotFoundError:
            return False
    return name in _OWN


def validator_of(name: str) -> Validator:
    """The validator that a pack names.

    Raises:
        KeyError: if there is none of that name.
    """
    if not name.startswith(STDNUM):
        return _OWN[name]
    is_valid = _stdnum(name.removeprefix(STDNUM)).is_valid

    def validate(value: str, regions: Sequence[str]) -> Verdict | None:
        return SURE if is_valid(value) else None

    return validate


@cache
def _stdnum(module: str) -> Any:
    if importlib.util.find_spec("stdnum") is None:
        raise MissingExtraError("python-stdnum", "corpus", "finding private information")
    return importlib.import_module(f"stdnum.{module}")
