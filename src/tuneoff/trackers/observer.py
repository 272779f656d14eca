"""Passes what runs report on to experiment trackers."""

from collections.abc import Sequence
from pathlib import Path

from tuneoff import report
from tuneoff.results.events import Event
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Prediction
from tuneoff.study.executor import Job
from tuneoff.trackers import Tracker


class TrackerObserver:
    """Follows runs one at a time. `keep_texts=False` withholds generated texts from the trackers."""

    def __init__(self, trackers: Sequence[Tracker], group: str, *, keep_texts: bool) -> None:
        self._trackers, self._group, self._keep_texts = trackers, group, keep_texts
        self._running: Job | None = None

    def started(self, job: Job) -> None:
        self._running = job
        for tracker in self._trackers:
            tracker.start(job.name, self._group, job.spec)

    def event(self, job: Job, event: Event) -> None:
        if job != self._running:  # what the study reports between two runs is not of a run
            return
        for tracker in self._trackers:
            tracker.event(event)

    def ended(self, job: Job, run: StoredRun) -> None:  # noqa: ARG002
        self._running = None

        def figures() -> list[Path]:
            if run.record.status != "finished":
                return []
            return [path for path in report.run_figures(run).paths if path.suffix == ".png"]

        def predictions() -> list[Prediction]:
            return run.predictions if self._keep_texts else []

        for tracker in self._trackers:
            tracker.finish(run.record, figures, predictions)
