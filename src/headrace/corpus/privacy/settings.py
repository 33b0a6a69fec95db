"""The section of a recipe about private information."""

from __future__ import annotations

from pydantic import Field

from headrace.config.section import Section
from headrace.corpus.privacy.deidentify import Mode


class PrivacySettings(Section):
    """What happens to private information, see docs/privacy.md."""

    mode: Mode = "mask"
    modes: dict[str, Mode] = Field(default_factory=dict)
    """Other modes for some types: `{CREDIT_CARD: drop}`."""
    names: bool = False
    """Whether people's names are looked for, in languages that have rules for them."""
    packs: str | None = None
    """Folder of further packs; `${NAME}` is an environment variable."""
    key: str | None = None
    """File of the secret key, outside the corpus; `${NAME}` is an environment variable.  Needed
    for `hash` and `pseudonym`, and to find a person's documents again."""
    raw_originals: bool = False
    """Sources may keep the original bytes of their documents, which hold all the private
    information that is taken out of the texts."""
