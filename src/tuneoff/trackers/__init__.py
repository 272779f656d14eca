"""Experiment trackers. They live in the parent process, are fed by events, and can never stop a run."""

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tuneoff.errors import UserError
from tuneoff.results.events import Event
from tuneoff.results.run_record import Prediction, Record
from tuneoff.spec import RunSpec

Figures = Callable[[], Sequence[Path]]
Predictions = Callable[[], Sequence[Prediction]]


class Tracker(Protocol):
    """Follows one run after the other. What it may log of the configuration is the spec and nothing else."""

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        """A run starts; `group` is its study."""
        ...

    def event(self, event: Event) -> None:
        """The run has told something."""
        ...

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        """The run has ended. `figures` draws PNG files, `predictions` reads what was written: either may fail, and
        then it is the tracker that does."""
        ...


class Guarded:
    """A tracker that is switched off by its first error, which costs one line on stderr."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker: Tracker | None = tracker
        self._name = name

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        self._try(lambda tracker: tracker.start(name, group, spec))

    def event(self, event: Event) -> None:
        self._try(lambda tracker: tracker.event(event))

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        self._try(lambda tracker: tracker.finish(record, figures, predictions))

    def _try(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as error:
            self._tracker = None
            why = " ".join(f"{type(error).__name__}: {error}".split())
            why = "".join(character if character.isprintable() else "?" for character in why)
            print(f"{self._name} is switched off, the runs go on ({why[:300]})", file=sys.stderr)


def _wandb(folder: Path) -> Tracker:
    from tuneoff.trackers.wandb import WandbTracker

    return WandbTracker(folder)


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"wandb": _wandb}


def open_tracker(name: str, folder: Path) -> Tracker:
    """A guarded tracker by name; it keeps its files under `folder`.

    Raises `UserError` for an unknown name, and for a tracker that is not installed or has no account to write to.
    """
    if name not in TRACKERS:
        close = difflib.get_close_matches(name.lower(), TRACKERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(TRACKERS)}"
        raise UserError(f"--report-to: unknown tracker {name!r}; {hint}")
    return Guarded(TRACKERS[name](folder), name)
