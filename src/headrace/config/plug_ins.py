"""Tasks that other packages bring: entry points of the group ``headrace.tasks``.

The name of an entry point is the ``type`` of its section in a run config; its object is the task's
class.  A package is imported when its task is asked for, not before.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headrace.errors import ConfigError, Problem

GROUP = "headrace.tasks"


def plug_in_names() -> list[str]:
    """Names of the tasks that installed packages bring, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


@cache
def plug_in_task(name: str) -> Any:
    """The class of a task that a package brings, a subclass of :class:`headrace.tasks.task.Task`.

    Raises:
        ConfigError: if no package brings it, several do, it cannot be imported, or is no task of
            this name.
    """
    entries = list(entry_points(group=GROUP, name=name))
    sources = sorted({_origin(entry) for entry in entries})
    if len(sources) != 1:
        what = "several packages bring this task" if sources else "no package brings this task"
        raise ConfigError(Problem(what, f"entry point {GROUP}: {name}", ", ".join(sources) or None))
    where = f"entry point {GROUP}: {name}"
    try:
        found = entries[0].load()
    except Exception as error:  # whatever the code of another package raises when it is imported
        lines = str(error).strip().splitlines() or [""]
        what = f"the task cannot be imported: {type(error).__name__}: {lines[0][:200]}"
        remedy = "Repair or remove the package"
        raise ConfigError(Problem(what, where, sources[0], remedy)) from error
    from headrace.config.task_sections import TaskSection
    from headrace.tasks.task import Task

    is_task = isinstance(found, type) and issubclass(found, Task)
    section = getattr(found, "section", None)
    if (
        not is_task
        or found.name != name
        or not (isinstance(section, type) and issubclass(section, TaskSection))
    ):
        what = (
            "not a task of this name: a subclass of headrace.tasks.task.Task with this name and a "
            "section"
        )
        raise ConfigError(Problem(what, where, sources[0], "Correct the package"))
    return found


def _origin(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else "?"
    return f"{entry.value} of {package}"
