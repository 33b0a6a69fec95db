"""Loggers that other packages bring: entry points of the group ``headrace.loggers``.

The object of an entry point is called with its settings, as the run config has them, and the
:class:`~headrace.training.loggers.logged_run.LoggedRun`; it returns a
:class:`~headrace.training.callbacks.Callback`, such as a
:class:`~headrace.training.loggers.background.Background` around a destination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from headrace.errors import ConfigError, Problem
from headrace.training.callbacks import Callback
from headrace.training.loggers.logged_run import LoggedRun

GROUP = "headrace.loggers"

MakeLogger = Callable[[Mapping[str, Any], LoggedRun], Callback]


def plug_in_logger(name: str) -> MakeLogger:
    """Return what makes a logger that a package brings.

    Raises:
        ConfigError: if no package brings it, several do, or it cannot be imported.
    """
    where = f"headrace.logging.plug_ins.{name}"
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if len(found) != 1:
        what = "several packages bring this logger" if found else "no package brings this logger"
        known = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)})) or "none"
        raise ConfigError(Problem(what, where, ", ".join(found) or None, f"Installed: {known}"))
    (entry,) = found.values()
    try:
        maker: MakeLogger = entry.load()
    except Exception as error:  # whatever the code of another package raises when it is imported
        what = f"the logger cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(Problem(what, where, entry.value, "Repair the package")) from error
    return maker
