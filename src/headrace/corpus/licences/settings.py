"""The sections of a recipe about licences and terms."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator

from headrace.config.section import Section

Use = Literal["training", "redistribution", "commercial", "derivatives"]
"""What somebody may want to do with a corpus."""
GROUPS = (
    "public-domain", "permissive", "share-alike", "non-commercial", "no-derivatives", "proprietary",
)  # fmt: skip


def _names_licence(value: str) -> str:
    if value in GROUPS or value.startswith("LicenseRef-"):
        return value
    from headrace.corpus.licences.spdx import spdx_id, spdx_ids  # the list is only needed here

    known = spdx_id(value)
    if known is None:
        near = difflib.get_close_matches(value, [*GROUPS, *spdx_ids()], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"{value!r} is neither an SPDX id, nor LicenseRef-…, nor one of {', '.join(GROUPS)}"
            f"{hint}"
        )
    return known


LicenceName = Annotated[str, AfterValidator(_names_licence)]


class LicenceSettings(Section):
    """Which licences and terms a document may come under."""

    allow: tuple[LicenceName, ...] = ()
    """SPDX ids, or groups: `public-domain`, `permissive`, `share-alike`, `non-commercial`,
    `no-derivatives`, `proprietary`. Where any is given, all other licences are left out."""
    deny: tuple[LicenceName, ...] = ()
    """SPDX ids or groups that are left out, also where `allow` names them."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of documents whose licence is not known, or not recognised."""
    uses: tuple[Use, ...] = ()
    """What the corpus is for. A source whose terms of service forbid one of these is an error."""
