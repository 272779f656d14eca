"""MLflow: a study is an experiment. Without MLFLOW_TRACKING_URI, its data base is a file in the study's folder."""

from __future__ import annotations

import importlib
import os
import shlex
import time
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError
from tuneoff.results.events import Event
from tuneoff.results.run_record import Record
from tuneoff.spec import RunSpec
from tuneoff.trackers.base import Figures, Predictions
from tuneoff.trackers.logged import point_of, summary_of, table_of

# Old servers of MLflow refuse longer values of parameters and tags; `settings.json` has them whole.
_LONGEST_VALUE = 500


class MlflowTracker:
    """Logs by MLflow's client. The constructor raises `UserError` without the package."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            mlflow: Any = importlib.import_module("mlflow")
            importlib.import_module("sqlalchemy")
        except ImportError as error:
            raise UserError("--report-to mlflow: not installed; run: pip install mlflow") from error
        self._metric: Any = importlib.import_module("mlflow.entities").Metric
        folder.mkdir(parents=True, exist_ok=True)
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self._local = None if given else f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        self._artefacts = None if given else (folder / "mlflow").resolve().as_uri()
        self._client: Any = mlflow.MlflowClient(tracking_uri=given or self._local)
        self._run: str | None = None

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        """Start a run in the experiment that is named after the study. An open run is closed as failed."""
        if self._run is not None:
            self._client.set_terminated(self._run, "FAILED")
        experiment = self._client.get_experiment_by_name(group)
        number = experiment.experiment_id if experiment else self._client.create_experiment(group, self._artefacts)
        self._run = self._client.create_run(number, run_name=name, tags={"method": spec.method.name}).info.run_id
        settings = spec.without_paths().model_dump(mode="json")
        self._client.log_dict(self._run, settings, "settings.json")
        for key, value in _leaves(settings):
            self._client.log_param(self._run, key, str(value)[:_LONGEST_VALUE])

    def event(self, event: Event) -> None:
        """Log a step, a validation or a resource sample. The axis of resources counts seconds."""
        point = point_of(event)
        if point is not None:
            self._log(point.values, round(point.at))

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        """Log scores, costs, figures and texts, then close the run."""
        summary = summary_of(record)
        self._log({key: value for key, value in summary.items() if not isinstance(value, str)}, 0)
        for key, text in summary.items():
            if isinstance(text, str):
                self._client.set_tag(self._run, key, text[:_LONGEST_VALUE])
        for path in figures():
            self._client.log_artifact(self._run, str(path), "figures")
        if rows := predictions():
            columns, data = table_of(rows)
            self._client.log_dict(self._run, {"columns": columns, "data": data}, "predictions.json")
        run, self._run = self._run, None
        self._client.set_terminated(run, "FINISHED" if record.status == "finished" else "FAILED")

    def closing_words(self) -> str | None:
        """How to look at the runs, if they are in the study's folder."""
        if self._local is None:
            return None
        return f"to see the runs: mlflow ui --backend-store-uri {shlex.quote(self._local)}"

    def _log(self, values: dict[str, Any], step: int) -> None:
        now = int(time.time() * 1000)  # MLflow's axis of time
        metrics = [self._metric(key, float(value), now, step) for key, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)


def _leaves(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The values of nested settings, by names such as `method.name`."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found
