"""SPDX identifiers as the Hugging Face hub writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HUB = frozenset(
    (
        "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause",
        "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
        "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
        "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
        "cdla-sharing-1.0", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2",
        "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c",
        "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "osl-3.0", "pddl",
        "postgresql", "unlicense", "wtfpl", "zlib",
    )
)  # fmt: skip
"""https://huggingface.co/docs/hub/repositories-licenses"""
_OTHER_NAMES = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}
UNKNOWN, OTHER = "unknown", "other"


def hub_licence(spdx: str) -> str:
    """The hub's word for an SPDX identifier; ``other`` if it has none."""
    name = re.sub(r"-(only|or-later)$|\+$", "", spdx.lower())
    if "unknown" in name:
        return UNKNOWN
    name = _OTHER_NAMES.get(name, name)
    return name if name in _HUB else "gfdl" if name.startswith("gfdl") else OTHER


def identifiers(expressions: Iterable[str]) -> list[str]:
    """The licences of SPDX expressions, each once, in their order."""
    words = [word for one in expressions for word in re.findall(r"[A-Za-z0-9.+-]+", one)]
    return [word for word in dict.fromkeys(words) if word not in ("AND", "OR", "WITH")]
