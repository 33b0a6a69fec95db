"""Weights & Biases: one run a branch, online or offline."""

from __future__ import annotations

import json
import logging
import os
import uuid
from typing import Any

from headrace.config.logging import WandbConfig
from headrace.training.callbacks import Record
from headrace.training.loggers.background import Destination
from headrace.training.loggers.logged_run import LoggedRun, keep_json
from headrace.training.loggers.scalars import scalars

logger = logging.getLogger(__name__)

_INIT_TIMEOUT = 60.0
_FINISH_TIMEOUT = 25.0
_FLUSH_SECONDS = 1.0


class WandbRun(Destination):
    """A run of W&B that goes on where it was after a stop.

    Its id, and the last steps that it has, are in a file of the run folder: a step that is trained
    a second time is not logged a second time.
    """

    name = "W&B"

    def __init__(self, settings: WandbConfig, logged: LoggedRun) -> None:
        """Start nothing yet."""
        self.settings = settings
        self.logged = logged
        self.state = logged.folder / "wandb.json"
        self.run: Any = None
        self._last: dict[str, Any] = {}

    def open(self, record: Record) -> None:
        """Open the run; offline if the server does not answer or there is no API key."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        known = json.loads(self.state.read_text("utf-8")) if self.state.exists() else {}
        self._last = {"id": known.get("id") or uuid.uuid4().hex[:12], **known}
        keep_json(self.state, self._last)
        mode = self.settings.mode or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            mode = self._offline("there is no API key, see `wandb login`")
        try:
            self.run = self._init(record, mode)
        except wandb.Error as error:
            if mode == "offline":
                raise
            mode = self._offline(" ".join(str(error).split())[:200])
            wandb.teardown()  # else the id counts as in use
            self.run = self._init(record, mode)
        if mode == "offline":
            logger.info("W&B: offline; send it with: wandb sync %s", self.run.settings.sync_dir)

    def _offline(self, reason: str) -> str:
        logger.warning("W&B: %s; the run is written offline", reason)
        return "offline"

    def _init(self, record: Record, mode: Any) -> Any:
        import wandb

        return wandb.init(
            project=self.settings.project,
            entity=self.settings.entity,
            id=self._last["id"],
            resume="allow",
            name=f"{self.logged.name} {self.logged.title}",
            group=self.logged.name,
            job_type=record["stage"],
            tags=self.settings.tags,
            config=self.logged.parameters(record),
            dir=str(self.logged.output),
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(
                # of the command line, the terminal and the code nothing is sent: they may hold
                # what is nobody's business
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_save_requirements=False,
                init_timeout=_INIT_TIMEOUT,
                finish_timeout=_FINISH_TIMEOUT,
                # what is not in the file yet dies with the process
                x_transaction_log_flush_interval=_FLUSH_SECONDS,
            ),
        )

    def send(self, record: Record) -> None:
        """Log the numbers of a record; W&B sends them in a process of its own."""
        kind, step = record["kind"], record["step"]
        if step <= self._last.get(kind, -1):
            return
        # W&B holds a step back until a later one comes: those before this one are safe from now
        # on.  They are noted before: what a crash takes is better than what is there twice.
        keep_json(self.state, self._last)
        self.run.log(scalars(record), step=step)
        self._last[kind] = step

    def close(self, *, complete: bool) -> None:
        """Finish; the exit code of a run that was stopped is not 0."""
        if self.run is not None:
            keep_json(self.state, self._last)
            self.run.finish(exit_code=0 if complete else 1)
