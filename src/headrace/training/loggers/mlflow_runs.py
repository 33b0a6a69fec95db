"""MLflow: one run a branch, in a database of one's own or on a server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import islice
from typing import Any

from headrace.config.logging import MlflowConfig
from headrace.training.callbacks import Record
from headrace.training.loggers.background import Destination
from headrace.training.loggers.logged_run import LoggedRun, keep_json
from headrace.training.loggers.scalars import scalars

_MOST_PARAMETERS = 100
"""That MLflow takes at once."""
_LONGEST_NAME = 250
_LONGEST_VALUE = 6000


class MlflowRun(Destination):
    """A run of MLflow that goes on where it was after a stop.

    Its id is in a file of the run folder; the last steps that it has, MLflow is asked for: a step
    that is trained a second time is not logged a second time.
    """

    name = "MLflow"

    def __init__(self, settings: MlflowConfig, logged: LoggedRun) -> None:
        """Start nothing yet.

        The database is in the run folder if neither the settings nor the environment name one.
        """
        self.address = (
            settings.tracking_uri
            or os.environ.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{logged.output.resolve() / 'mlflow.db'}"
        )
        self.experiment = settings.experiment
        self.logged = logged
        self.state = logged.folder / "mlflow.json"
        self.id = ""
        self._client: Any = None
        self._last: dict[str, int] = {}

    def open(self, record: Record) -> None:
        """Open the run, and log the facts of the branch as parameters."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # ours are the attempts to send again
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.address)
        if self.state.exists():
            self.id = json.loads(self.state.read_text("utf-8"))["id"]
        else:
            self.id = self._create(client, record)
            keep_json(self.state, {"id": self.id})
        run = client.get_run(self.id)
        client.update_run(self.id, status="RUNNING")
        new = (
            Param(name, value)
            for name, value in flat(self.logged.parameters(record)).items()
            if name not in run.data.params  # they cannot be changed
        )
        while part := list(islice(new, _MOST_PARAMETERS)):
            client.log_batch(self.id, params=part)
        for kind in ("train", "validation"):
            if f"{kind}/loss" in run.data.metrics:
                history = client.get_metric_history(self.id, f"{kind}/loss")
                self._last[kind] = max(metric.step for metric in history)
        self._client = client

    def _create(self, client: Any, record: Record) -> str:
        found = client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else client.create_experiment(self.experiment)
        tags = {
            "headrace.run": self.logged.name,
            "headrace.stage": record["stage"],
            "headrace.branch": record["branch"],
        }
        title = f"{self.logged.name} {self.logged.title}"
        return str(client.create_run(number, run_name=title, tags=tags).info.run_id)

    def send(self, record: Record) -> None:
        """Log the numbers of a record.

        Metrics of the same name, time, step and value are one to MLflow: an attempt that had
        arrived although it seemed to fail does no harm.
        """
        from mlflow.entities import Metric

        kind, step = record["kind"], record["step"]
        if step <= self._last.get(kind, -1):
            return
        moment = round(1000 * record["time"])
        metrics = [Metric(name, value, moment, step) for name, value in scalars(record).items()]
        self._client.log_batch(self.id, metrics=metrics)
        self._last[kind] = step

    def close(self, *, complete: bool) -> None:
        """End the run: ``FINISHED``, or ``KILLED`` if it was stopped."""
        if self._client is not None:
            self._client.set_terminated(self.id, "FINISHED" if complete else "KILLED")


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Return nested data as texts under dotted names; what MLflow has no room for is cut off."""
    if isinstance(value, Mapping) and value:
        return {
            key: text
            for part, item in value.items()
            for key, text in flat(item, f"{name}.{part}" if name else str(part)).items()
        }
    text = value if isinstance(value, str) else json.dumps(value)
    return {name[:_LONGEST_NAME]: text[:_LONGEST_VALUE]}
