"""What takes the place of a value: one form of it for all spellings, tokens and pseudonyms."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from headrace.corpus.privacy.folding import fold
from headrace.corpus.privacy.key import Key
from headrace.corpus.privacy.phones import Number, parse
from headrace.corpus.privacy.reserved import FICTIONAL_PHONES, IDENTIFIERS, ZEROS

SUBJECTS = ("EMAIL", "PHONE")
"""Types by which a person can ask for documents."""


def normalised(type_: str, value: str, regions: Sequence[str] = ()) -> str:
    """The same text for every way of writing the same value.

    Mail addresses are in lower case, telephone numbers as E.164 (their digits where the country
    is unknown), identifiers are letters and digits alone, in capitals; all digits are ASCII.
    """
    text = unicodedata.normalize("NFC", fold(value).text)
    if type_ == "EMAIL":
        text = re.sub(r" ?[\[({<]at[\])}>] ?", "@", text.lower())
        return re.sub(r" ?[\[({<](?:dot|punkt|punto|point|ponto)[\])}>] ?", ".", text)
    if type_ == "PHONE":
        found = parse(text, regions)
        return found[0].e164 if found else re.sub("[^0-9]", "", text)
    if type_ == "IP_ADDRESS":
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:  # overlapping findings have become one
            return text
    if type_ == "MAC_ADDRESS":
        return re.sub("[^0-9a-f]", "", text.lower())
    if type_ == "USER_NAME":
        return text.lower()
    if type_ in IDENTIFIERS:
        return "".join(letter for letter in text.upper() if letter.isalnum())
    return text


def mask(type_: str) -> str:
    """``<EMAIL>``."""
    return f"<{type_}>"


def hashed(type_: str, value: str, key: Key) -> str:
    """``<EMAIL:abcdefghijkl>``; ``value`` is normalised."""
    return f"<{type_}:{key.token(type_, value)}>"


def pseudonym(type_: str, value: str, key: Key) -> str:
    """Something of the same kind that belongs to nobody; ``value`` is normalised.

    The same value always gets the same one.  Mail addresses are of example.org; addresses of the
    internet lie in the ranges of RFC 5737 and RFC 3849, those of devices in that of RFC 7042;
    telephone numbers are the fictional ones of their country, or 555-01xx.  Identifiers, cards
    and accounts keep their length and begin with four zeros, which none does that is given out;
    their check digits are left to chance.  For keys, passwords, names and types of foreign packs
    nothing is safe that looks real: they get their hash.
    """
    make = _MAKERS.get(type_)
    if make is None and type_ in IDENTIFIERS:
        make = _identifier
    made = make(value, _Dice(type_, value, key)) if make else None
    return made if made is not None else hashed(type_, value, key)


class _Dice:
    """Numbers that key, type and value determine."""

    def __init__(self, type_: str, value: str, key: Key) -> None:
        self.token = key.token(type_, value)
        self._left = int.from_bytes(key.digest("pseudonym", f"{type_}\0{value}", 64), "big")

    def below(self, count: int) -> int:
        """A number from 0 to ``count`` - 1."""
        self._left, number = divmod(self._left, count)
        return number

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))


def _email(value: str, dice: _Dice) -> str:
    return f"user-{dice.token}@example.org"


def _user_name(value: str, dice: _Dice) -> str:
    return f"user_{dice.token}"


def _phone(value: str, dice: _Dice) -> str:
    found = parse(value, ()) if value.startswith("+") else None
    ranges = FICTIONAL_PHONES.get(found[0].region or "US") if found else None
    ranges = ranges or FICTIONAL_PHONES["US"]
    chosen = ranges[dice.below(len(ranges))]
    national = chosen.prefix + dice.digits(chosen.digits)
    groups, start = [f"+{chosen.country}"], 0
    for length in chosen.groups:
        groups.append(national[start : start + length])
        start += length
    return " ".join(groups)


def _ip_address(value: str, dice: _Dice) -> str | None:
    if ":" in value:
        parts = [f"{dice.below(1 << 16):x}" for _ in range(4)]
        return str(ipaddress.ip_address(f"2001:db8::{':'.join(parts)}"))
    net = ("192.0.2", "198.51.100", "203.0.113")[dice.below(3)]
    return f"{net}.{dice.below(256)}"


def _mac_address(value: str, dice: _Dice) -> str:
    return f"00:00:5e:00:53:{dice.below(256):02x}"


def _card(value: str, dice: _Dice) -> str:
    return ZEROS + dice.digits(12)


def _iban(value: str, dice: _Dice) -> str:
    """Check digits 00, which no account has."""
    country = value[:2] if value[:2].isalpha() else "XX"
    return country + "00" + ZEROS + dice.digits(max(0, len(value) - 8))


def _identifier(value: str, dice: _Dice) -> str | None:
    digits = iter([*ZEROS, *dice.digits(len(value))])
    if sum(letter.isdigit() for letter in value) < len(ZEROS):
        return None
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(
        next(digits) if letter.isdigit() else letters[dice.below(26)] for letter in value
    )


_MAKERS: dict[str, Callable[[str, _Dice], str | None]] = {
    "CREDIT_CARD": _card,
    "EMAIL": _email,
    "IBAN": _iban,
    "IP_ADDRESS": _ip_address,
    "MAC_ADDRESS": _mac_address,
    "PHONE": _phone,
    "USER_NAME": _user_name,
}


def subject_keys(value: str, key: Key, regions: Sequence[str] = ()) -> tuple[str, ...]:
    """All keys that documents may have under a person's mail address or telephone number.

    A number that stands in a text without a country that is known is kept by its digits: so a
    number, best given with its calling code, has several keys.

    Args:
        value: mail address or telephone number.
        key: the key of the data set.
        regions: countries of a number without a calling code.
    """
    if "@" in value:
        return (key.subject("EMAIL", normalised("EMAIL", value.strip())),)
    text = fold(value.strip()).text
    found = parse(text, regions)
    written = re.sub("[^0-9]", "", text)
    forms = [found[0].e164, *_digits_of(found[0])] if found else []
    return tuple(dict.fromkeys(key.subject("PHONE", form) for form in [*forms, written]))


def _digits_of(number: Number) -> Iterable[str]:
    country, national = str(number.country), number.national
    return national, "0" + national, country + national, "00" + country + national
