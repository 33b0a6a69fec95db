"""Which documents of a corpus have been removed: the tombstones of its languages."""

from __future__ import annotations

from collections.abc import Iterable


def removed_ids(url: str, folders: Iterable[str]) -> dict[str, int]:
    """Ids of removed documents -> epoch of the tombstone, over all folders of shards."""
    return {}
