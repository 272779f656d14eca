"""Progress of a study in a notebook: a bar with the run that works at the moment, and the study so far."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from tuneoff.results.events import Event, Generated, PhaseStarted, StepDone
from tuneoff.results.run_claims import Team
from tuneoff.results.run_dir import StoredRun
from tuneoff.study.executor import Job
from tuneoff.text import plural


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class NotebookProgress:
    """An observer of runs that shows one line with a bar below the cell.

    `board` has further lines on the study. It is asked when a run has ended, and every few seconds if there are
    several workers.
    """

    def __init__(self, board: Callable[[], Sequence[str]] | None = None) -> None:
        self._handle: Any = None
        self._ended = 0
        self._board = board
        self._lines: Sequence[str] = ()
        self._last: tuple[str, int | None, int | None] = ("", None, None)

    def __enter__(self) -> Self:
        from IPython.display import HTML, display

        self._handle = display(HTML("preparing the study"), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(f"{plural(self._ended, 'run')} ended")

    def started(self, job: Job) -> None:
        self._show(f"{plural(self._ended, 'run')} ended; {job.name} starts")

    def event(self, job: Job, event: Event) -> None:
        """Show phases, steps and texts."""
        if isinstance(event, StepDone):
            self._show(f"{plural(self._ended, 'run')} ended; {job.name}: step", event.step, event.steps)
        elif isinstance(event, Generated):
            self._show(f"{plural(self._ended, 'run')} ended; {job.name}: text", event.done, event.total)
        elif isinstance(event, PhaseStarted):
            self._show(f"{plural(self._ended, 'run')} ended; {job.name}: {event.phase}")

    def ended(self, job: Job, run: StoredRun) -> None:
        self._ended += 1
        if self._board is not None:
            self._lines = self._board()
        self._show(f"{plural(self._ended, 'run')} ended; {job.name} {run.record.status}")

    def team(self, team: Team) -> None:  # noqa: ARG002 - the board reads the folder
        """Show the board again."""
        if self._board is not None:
            self._lines = self._board()
            self._show(*self._last)

    def _show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self._last = text, done, total
        if self._handle is None:
            return
        from IPython.display import HTML

        bar = "" if done is None or total is None else f'<progress value="{done}" max="{total}"></progress> '
        count = "" if done is None or total is None else f" {done} of {total}"
        below = "".join(f"<br><small>{html.escape(line)}</small>" for line in self._lines)
        self._handle.update(HTML(f"{bar}{html.escape(text)}{count}{below}"))
