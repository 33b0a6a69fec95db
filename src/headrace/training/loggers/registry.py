"""What listens to a branch as its config asks for: loggers, and the profiler."""

from __future__ import annotations

from importlib.util import find_spec

from headrace.config.logging import LoggingConfig
from headrace.errors import ConfigError, MissingExtraError, UserError
from headrace.training.callbacks import Callback
from headrace.training.loggers.background import Background
from headrace.training.loggers.console import Console
from headrace.training.loggers.logged_run import LoggedRun
from headrace.training.loggers.metrics_file import MetricsFile
from headrace.training.loggers.mlflow_runs import MlflowRun
from headrace.training.loggers.plug_ins import plug_in_logger
from headrace.training.loggers.tensorboard import TensorBoard
from headrace.training.loggers.wandb_runs import WandbRun
from headrace.training.profiling import StepProfiler

_PACKAGES = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
"""What each extra has to bring."""


def check_loggers(settings: LoggingConfig) -> None:
    """Refuse loggers whose packages are not installed.

    Raises:
        UserError: naming the extra of each, and plug-ins that cannot be had.
    """
    problems = [
        problem
        for extra, packages in _PACKAGES.items()
        if getattr(settings, extra) is not None
        for package in packages
        if find_spec(package) is None
        for problem in MissingExtraError(package, extra, f"headrace.logging.{extra}").problems
    ]
    for name in settings.plug_ins:
        try:
            plug_in_logger(name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)


def make_loggers(settings: LoggingConfig, run: LoggedRun) -> list[Callback]:
    """Return what listens to a branch; the metrics file, which has all of it, comes first."""
    members: list[Callback] = [
        MetricsFile(run.output / "metrics.jsonl"),
        Console(run.title, run.scores, seconds=settings.console_seconds),
    ]
    if settings.tensorboard:
        members.append(TensorBoard(run.output / "tensorboard" / run.folder.relative_to(run.output)))
    if settings.profiled is not None:
        members.append(StepProfiler(run.folder / "profile", *settings.profiled))
    if settings.wandb is not None:
        members.append(Background(WandbRun(settings.wandb, run)))
    if settings.mlflow is not None:
        members.append(Background(MlflowRun(settings.mlflow, run)))
    members += [plug_in_logger(name)(own, run) for name, own in settings.plug_ins.items()]
    return members
