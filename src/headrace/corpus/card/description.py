"""What only people can say about a corpus: the file ``card.yaml``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from headrace.config.object_file import section_problems
from headrace.config.section import Section
from headrace.config.yaml_file import read_yaml
from headrace.errors import ConfigError

Text = Annotated[str, Field(min_length=1)]
_REMEDY = "Write keys such as motivation, curation, uses, limits, contacts"


class Contact(Section):
    """Somebody who answers questions and requests."""

    name: Text
    email: str | None = None
    url: str | None = None
    role: str | None = None
    """What they are asked about: `removal of documents`."""


class Description(Section):
    """All of it is optional; what is missing is marked TODO in the card."""

    title: str | None = None
    """Readable name; the name of the corpus without it."""
    summary: str | None = None
    """What it is, in a few sentences; the recipe's description without it."""
    motivation: str | None = None
    """Why it was made, by whom, and who paid for it."""
    curation: str | None = None
    """Why these sources and these filters were chosen."""
    uses: str | None = None
    """What it is meant for."""
    out_of_scope: str | None = None
    """What it must not, or cannot, be used for."""
    limits: str | None = None
    """What it lacks, and what its numbers do not say."""
    biases: str | None = None
    """Whose language it holds, and whose it does not."""
    social_impact: str | None = None
    """Whom it may help and whom it may hurt."""
    privacy: str | None = None
    """What was decided about private information, beside what the recipe does."""
    speakers: str | None = None
    """Who wrote the texts: age, gender, region, first language, as far as it is known."""
    annotators: str | None = None
    """Who labelled or judged them, if anybody did."""
    situation: str | None = None
    """When, where, for whom and in which medium the texts were written."""
    text_characteristics: str | None = None
    """Genres and topics."""
    maintenance: str | None = None
    """Who keeps it, for how long, and how often a new version comes."""
    contacts: tuple[Contact, ...] = ()
    """People who answer questions and requests, first of all to remove documents."""
    creators: tuple[Contact, ...] = ()
    """Who made it."""
    licence: str | None = None
    """SPDX expression of the collection as such; each document keeps its own."""
    homepage: str | None = None
    """URL at which it is described or published."""
    citation: str | None = None
    """How it is cited, best as BibTeX."""
    published: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None = None
    """Date of this version, as 2026-01-31."""
    keywords: tuple[Text, ...] = ()
    """Tags."""


MISSING: Mapping[str, str] = {
    name: (field.description or "").rstrip(".").replace("\n", " ")
    for name, field in Description.model_fields.items()
}
"""What each key asks for."""


def read_description(path: Path) -> Description:
    """Read and check the file; :class:`ConfigError` with everything that is wrong with it."""
    data = read_yaml(path, "card description", _REMEDY)
    try:
        return Description.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(section_problems(error, Description)) from error


def words(description: Description, name: str) -> str:
    """What the description says under a key, or what is still to be said."""
    value = getattr(description, name)
    return str(value).strip() if value else f"**TODO** ({name}): {MISSING[name]}"
