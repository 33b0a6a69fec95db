"""Telling folders of models and tokenizers apart from names on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path


def folder_or_hub_name(name: str | Path) -> str | None:
    """What ``from_pretrained`` takes: a folder, its ``~`` expanded, or a name on the hub.

    None for a path at which there is no folder.  Asking the hub for one only costs time: without a
    network it tries for half a minute.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    return None if _is_path(str(name), folder) else str(name)


def _is_path(name: str, folder: Path) -> bool:
    """Whether a name that is no folder was meant as one: names on the hub are NAME or OWNER/NAME.

    OWNER/NAME is taken for a path where OWNER is a local folder, or NAME is a local file.
    """
    if folder.is_absolute() or name.startswith((".", "~")) or folder.exists():
        return True
    return name.count("/") > 1 or ("/" in name and folder.parent.is_dir())
