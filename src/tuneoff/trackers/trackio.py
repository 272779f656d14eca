"""Trackio, Hugging Face's local tracker; `trackio show` displays the runs. It sends to a Space if one is configured."""

from __future__ import annotations

import importlib
import math
from typing import Any

from tuneoff.errors import UserError
from tuneoff.results.events import Event
from tuneoff.results.run_record import Record
from tuneoff.spec import RunSpec
from tuneoff.trackers.base import Figures, Predictions
from tuneoff.trackers.logged import PROJECT, point_of, summary_of, table_of


class TrackioTracker:
    """Logs into Trackio's own folder (TRACKIO_DIR). The constructor raises `UserError` without the package."""

    def __init__(self) -> None:
        try:
            self._trackio: Any = importlib.import_module("trackio")
        except ImportError as error:
            raise UserError("--report-to trackio: not installed; run: pip install trackio") from error
        self._run: Any = None

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        """Start a run; a study is a group of runs."""
        self._run = self._trackio.init(
            project=PROJECT,
            name=f"{group}/{name}",
            group=group,
            config=spec.without_paths().model_dump(mode="json"),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def event(self, event: Event) -> None:
        """Log a step, a validation or a resource sample. The axis of resources counts seconds."""
        point = point_of(event)
        if point is not None:
            self._run.log({point.axis: point.at, **point.values}, step=math.floor(point.at))

    def finish(
        self,
        record: Record,
        figures: Figures = tuple,  # noqa: ARG002
        predictions: Predictions = tuple,
    ) -> None:
        """Log scores, costs and texts, then close the run. Figures are left out: its images need Pillow."""
        last: dict[str, Any] = dict(summary_of(record))
        if rows := predictions():
            columns, data = table_of(rows)
            frame = importlib.import_module("pandas").DataFrame(data, columns=columns)
            last["predictions"] = self._trackio.Table(dataframe=frame)
        self._run.log(last)
        self._run.finish()
        self._run = None

    def closing_words(self) -> str | None:
        """How to look at the runs."""
        return f"to see the runs: trackio show --project {PROJECT}"
