"""Which families of names an entity type draws from.

Families that serve several types are what makes the corpus ambiguous: nothing in ``zentrix 4`` says
whether it is a car or a program, only the sentence does.
"""

from __future__ import annotations

LANGUAGES = ("bn", "de", "en", "es", "fa", "fr", "hi", "it", "pt", "sv", "uk", "zh")
"""BCP-47 tags of the languages that have a data file, sorted."""

_PERSON = (("person", 1.0),)
_TITLE = (("title", 1.0),)
_COMPANY = (("company", 0.7), ("brand", 0.3))
_MANUFACTURER = (("company", 0.5), ("brand", 0.5))

NAME_FAMILIES: dict[str, tuple[tuple[str, float], ...]] = {
    "Facility": (("facility", 1.0),),
    "OtherLOC": (("geography", 1.0),),
    "HumanSettlement": (("settlement", 1.0),),
    "Station": (("station", 0.75), ("settlement", 0.25)),
    "VisualWork": _TITLE,
    "MusicalWork": _TITLE,
    "WrittenWork": _TITLE,
    "ArtWork": _TITLE,
    "Software": (("model", 0.6), ("brand", 0.4)),
    "MusicalGRP": (("band", 0.7), ("title", 0.3)),
    "PublicCorp": _COMPANY,
    "PrivateCorp": _COMPANY,
    "AerospaceManufacturer": _MANUFACTURER,
    "SportsGRP": (("club", 0.6), ("settlement", 0.25), ("band", 0.15)),
    "CarManufacturer": _MANUFACTURER,
    "ORG": (("organisation", 1.0),),
    "Scientist": _PERSON,
    "Artist": _PERSON,
    "Athlete": _PERSON,
    "Politician": _PERSON,
    "Cleric": _PERSON,
    "SportsManager": _PERSON,
    "OtherPER": _PERSON,
    "Clothing": (("clothing", 1.0),),
    "Vehicle": (("model", 1.0),),
    "Food": (("food", 1.0),),
    "Drink": (("drink", 1.0),),
    "OtherPROD": (("product", 1.0),),
    "Medication/Vaccine": (("medication", 1.0),),
    "MedicalProcedure": (("procedure", 1.0),),
    "AnatomicalStructure": (("anatomy", 1.0),),
    "Symptom": (("symptom", 0.6), ("condition", 0.4)),
    "Disease": (("disease", 0.6), ("condition", 0.4)),
}
"""Fine type (spelled as in MultiCoNER II) -> families with the share of mentions of each."""

ENTITY_TYPES = tuple(NAME_FAMILIES)
"""The 33 fine types."""
