"""Packages of the extras ``corpus`` and ``ocr``, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from headrace.errors import MissingExtraError


def needed(module: str, package: str, purpose: str, extra: str = "corpus") -> Any:
    """An optional module; :class:`MissingExtraError` if its package is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, extra, purpose) from error
