"""Values of a config without what must not leave the machine."""

from __future__ import annotations

import re
from typing import Any

_USER = re.compile(r"://[^/?#@\s]*@")
_QUERY = re.compile(r"(://[^?\s]*)\?\S+")
_SECRET_KEY = re.compile(
    r"password|passwd|secret|(access|auth|api|hub)_?token|api_?key|credential", re.IGNORECASE
)
_HIDDEN = "***"


def without_secrets(value: Any) -> Any:
    """Return JSON-able data in which secrets are hidden.

    They are: user and password in the address of anything, queries of addresses (signatures, access
    tokens), and texts under keys such as ``password`` or ``api_key``.
    """
    if isinstance(value, dict):
        return {
            key: _HIDDEN
            if isinstance(item, str) and _SECRET_KEY.search(key)
            else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    if isinstance(value, str):
        return _QUERY.sub(rf"\1?{_HIDDEN}", _USER.sub(f"://{_HIDDEN}@", value))
    return value
