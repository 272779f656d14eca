"""What an experiment tracker is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from tuneoff.results.events import Event
from tuneoff.results.run_record import Prediction, Record
from tuneoff.spec import RunSpec
from tuneoff.text import sanitize

Figures = Callable[[], Sequence[Path]]
Predictions = Callable[[], Sequence[Prediction]]


class Tracker(Protocol):
    """Follows one run after the other, in a process of its own (`tuneoff.trackers.process`).

    Of a run's configuration, a tracker logs the spec and nothing else.
    """

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        """A run starts. `group` is the name of its study."""
        ...

    def event(self, event: Event) -> None:
        """The run has reported an event: a step, a validation, a sample of memory and CPU use ..."""
        ...

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        """The run has ended. `figures` draws PNG files and `predictions` reads the generated texts, when called."""
        ...


class TrackerFailed(Exception):
    """The process of a tracker has reported an error, has ended, or does not answer. Its text says which."""


@runtime_checkable
class Closing(Protocol):
    """A tracker that has something to tell people after the last run."""

    def closing_words(self) -> str | None:
        """One sentence, such as where its files are and how to send them; None if there is nothing to tell."""
        ...


class GuardedTracker:
    """A tracker that can never stop a run: its first error switches it off and is one line on stderr."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker: Tracker | None = tracker
        self._name = name

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        self._try(lambda tracker: tracker.start(name, group, spec))

    def event(self, event: Event) -> None:
        self._try(lambda tracker: tracker.event(event))

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        self._try(lambda tracker: tracker.finish(record, figures, predictions))

    def closing_words(self) -> str | None:
        """Those of the tracker, if it has any."""
        words: list[str | None] = []
        self._try(lambda tracker: words.append(tracker.closing_words()) if isinstance(tracker, Closing) else None)
        return next(iter(words), None)

    def _try(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as error:
            self._tracker = None
            kind = "" if isinstance(error, TrackerFailed) else f"{type(error).__name__}: "
            why = sanitize(" ".join(f"{kind}{error}".split()))
            print(f"{self._name} is switched off, the runs go on ({why[:300]})", file=sys.stderr)
