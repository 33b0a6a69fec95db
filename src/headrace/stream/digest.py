"""Short digests of settings, by which a saved state knows them again."""

from __future__ import annotations

import json
from hashlib import blake2b


def digest(content: object) -> str:
    """Sixteen hexadecimal digits of the canonical JSON of ``content``."""
    canonical = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=8).hexdigest()
