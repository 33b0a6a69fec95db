"""What a recipe says: the sources of a corpus, who answers for them, and what is done to them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from headrace.config.section import Name, Section
from headrace.config.sizes import bytes_of
from headrace.corpus.catalogue.schema import GOVERNANCE
from headrace.corpus.duplicates.settings import DuplicatesSettings
from headrace.corpus.languages.settings import LanguageSettings
from headrace.corpus.licences.settings import LicenceSettings, Use
from headrace.corpus.media.settings import MediaSettings
from headrace.corpus.normalise import NormaliseSettings
from headrace.corpus.privacy.settings import PrivacySettings
from headrace.corpus.quality.settings import QualitySettings

FROM_FILE_NAME = "from_file_name"
"""A source's language where each of its files is named after one: ``de.txt.gz``."""

Words = Annotated[str, Field(min_length=1)]


class Source(MediaSettings):
    """Files that belong together, how they are read, and the answers to who, where and by what
    right."""

    id: Name
    """Names the source in the index, in takedowns and in the ids of its documents."""
    files: Annotated[tuple[Words, ...], Field(min_length=1)]
    """Paths or URLs (fsspec), with `*`, `?`, `[ab]` and `**`; `${NAME}` is an environment
    variable.  A file that several of them match is read once."""
    except_files: tuple[Words, ...] = ()
    """Which of these files are left out."""
    language: str | None = None
    """BCP-47 tag that all documents have which declare none themselves; `from_file_name`: the
    first part of each file's name."""
    title: Words
    custodian: Words
    """Who looks after the source and answers for it."""
    licence: Words
    """SPDX expression, name or URL; `unknown` if nobody knows."""
    consent_basis: Words
    """On what ground it may be used: `open licence`, `consent of the authors`, …"""
    jurisdiction: Words
    """Whose law holds for it: an ISO 3166 code, `EU`, `international`."""
    region: Words
    """Where its texts come from: a country, a continent, `worldwide`."""
    terms_of_service: str | None = None
    """URL or text of the terms under which it was obtained."""
    forbids: tuple[Use, ...] = ()
    """Uses that its terms forbid, whatever the licence says: `training`, `redistribution`,
    `commercial`, `derivatives`."""
    keep_original: bool = False
    """Keep the bytes that each document was read from beside its text, with all the private
    information that is in them; see docs/corpus.md."""
    homepage: str | None = None
    collected_at: str | None = None
    """ISO 8601 date on which the files were fetched; a document's own date goes first."""
    note: str | None = None
    """Anything else that a user of the corpus should know."""

    def governance(self) -> dict[str, str | None]:
        """Who, where and by what right, as the index has it."""
        return {name: getattr(self, name) for name in GOVERNANCE}


class BuildLimits(Section):
    """What one document, and one piece of work, may take."""

    seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Processor time of a document, from its bytes to its last measure; ten times as much of the
    clock.  What takes longer goes into quarantine."""
    memory: str = "2 GB"
    """Memory that a document may take beside that of the programs which examine it."""
    part: str = "16 MB"
    """Input that one worker takes at a time; larger files of lines are cut."""
    rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The build fails if more than this share of a source's records goes into quarantine …"""
    rejected_records: Annotated[int, Field(ge=0)] = 20
    """… and it is more records than this."""

    @field_validator("memory", "part")
    @classmethod
    def _size(cls, value: str) -> str:
        bytes_of(value)
        return value

    @property
    def memory_bytes(self) -> int:
        """``memory`` as a number."""
        return bytes_of(self.memory)

    @property
    def part_bytes(self) -> int:
        """``part`` as a number."""
        return bytes_of(self.part)


class Output(Section):
    """How the corpus is written."""

    samples_per_shard: Annotated[int, Field(ge=1)] = 10_000
    """Samples in every shard but the last of a language."""


class Recipe(Section):
    """A corpus: what it is made of, and how."""

    name: Name
    """Of the corpus."""
    version: Words
    """Of the corpus, to be raised when its content changes."""
    description: str | None = None
    """What it is, in a sentence or two."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    normalise: NormaliseSettings = NormaliseSettings()
    languages: LanguageSettings = LanguageSettings()
    licences: LicenceSettings = LicenceSettings()
    privacy: PrivacySettings | None = PrivacySettings()
    """`null`: private information stays where it is; the corpus says so."""
    quality: QualitySettings | None = QualitySettings()
    """`null`: nothing is measured, and the index has no counts of words."""
    duplicates: DuplicatesSettings | None = DuplicatesSettings()
    """`null`: duplicates are kept."""
    limits: BuildLimits = BuildLimits()
    output: Output = Output()

    @property
    def keeps_originals(self) -> bool:
        """Whether samples have the field ``orig``, which is empty where a source keeps none."""
        return any(source.keep_original for source in self.sources)

    @field_validator("version", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return str(value) if isinstance(value, (int, float)) else value
