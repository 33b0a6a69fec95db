"""Values that belong to nobody, so that they may stand for others and are never findings."""

from __future__ import annotations

import re
from typing import NamedTuple

ZEROS = "0000"
"""The first digits of every number that stands for an identifier: none is given out that begins
so, in any country that has a pack."""


IDENTIFIERS = frozenset(
    {
        "BANK_ACCOUNT",
        "CREDIT_CARD",
        "DRIVING_LICENCE",
        "HEALTH_ID",
        "IBAN",
        "NATIONAL_ID",
        "PASSPORT",
        "PROFESSIONAL_ID",
        "TAX_ID",
    }
)
"""Types whose values are numbers that someone gives out."""


def is_reserved(identifier: str) -> bool:
    """Whether the first four digits of an identifier are zeros."""
    return re.sub("[^0-9]", "", identifier).startswith(ZEROS)


class FictionalPhones(NamedTuple):
    """Numbers that a regulator keeps for films and examples."""

    country: int
    """Calling code."""
    prefix: str
    """The first digits of the national number."""
    digits: int
    """How many digits follow it."""
    groups: tuple[int, ...]
    """Lengths of the groups in which the national number is written."""


AREAS_555 = (
    "201", "202", "212", "213", "305", "312", "313", "404", "415", "503", "512", "602", "617",
    "702", "713", "716", "808", "816", "901", "907",
)  # fmt: skip
"""Area codes of the North American numbers 555-0100 to 555-0199."""

FICTIONAL_PHONES: dict[str, tuple[FictionalPhones, ...]] = {
    "US": tuple(FictionalPhones(1, f"{area}55501", 2, (3, 3, 4)) for area in AREAS_555),
    "GB": (FictionalPhones(44, "7700900", 3, (4, 6)),),  # Ofcom: numbers for drama
    "FR": (  # Arcep: numbers for works of fiction
        FictionalPhones(33, "63998", 4, (1, 2, 2, 2, 2)),
        FictionalPhones(33, "19900", 4, (1, 2, 2, 2, 2)),
    ),
    "DE": (  # Bundesnetzagentur: numbers for media
        FictionalPhones(49, "3023125", 3, (2, 8)),
        FictionalPhones(49, "6990009", 3, (2, 8)),
        FictionalPhones(49, "4066969", 3, (2, 8)),
        FictionalPhones(49, "8999998", 3, (2, 8)),
    ),
    "SE": (  # Post- och telestyrelsen: numbers for books and films
        FictionalPhones(46, "8465004", 2, (1, 3, 3, 2)),
        FictionalPhones(46, "3139006", 2, (2, 3, 2, 2)),
        FictionalPhones(46, "4062804", 2, (2, 3, 2, 2)),
    ),
    "AU": (FictionalPhones(61, "25550", 4, (1, 4, 4)),),  # ACMA: numbers for creative works
}
"""Country -> ranges; all others get the North American one."""


def is_fictional_phone(country: int, national: str) -> bool:
    """Whether a number, of calling code and national digits, is kept for fiction."""
    if country == 1:
        return len(national) in (7, 10) and national[-7:-2] == "55501"
    return any(
        country == kept.country
        and national.startswith(kept.prefix)
        and len(national) == len(kept.prefix) + kept.digits
        for ranges in FICTIONAL_PHONES.values()
        for kept in ranges
    )
