"""Progress of runs on stderr: a live line on a terminal, plain lines elsewhere, nothing when quiet.

Names, notes and messages may come from strangers, so their control codes are replaced.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from tuneoff.metrics.registry import METRICS
from tuneoff.results.events import Event, Note, PhaseStarted, Validated
from tuneoff.results.run_claims import Team
from tuneoff.results.run_dir import StoredRun
from tuneoff.spec.study import METRIC
from tuneoff.study.executor import Job
from tuneoff.study.live_run import LiveRun
from tuneoff.text import LastingStream, format_duration, sanitize

PLAIN_SECONDS = 5.0
BOARD_SECONDS = 10.0
_STYLES = {"finished": "green", "failed": "red", "diverged": "red", "interrupted": "yellow"}


@dataclass(frozen=True)
class _Running:
    """A run that has started: its number in the study, and when it started."""

    number: int
    began: float
    state: LiveRun


class _Display(Protocol):
    def line(self, text: str, style: str = "") -> None:
        """A line that stays."""
        ...

    def moment(self, text: str, done: tuple[int, int] | None) -> None:
        """The current state; the next one replaces it."""
        ...

    def close(self) -> None: ...


class _Silent:
    def line(self, text: str, style: str = "") -> None:
        pass

    def moment(self, text: str, done: tuple[int, int] | None) -> None:
        pass

    def close(self) -> None:
        pass


class _Plain:
    """Plain lines; the current state at most once every few seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._last = clock()
        self._shown = self._moment = ""

    def line(self, text: str, style: str = "") -> None:  # noqa: ARG002
        self._last, self._shown = self._clock(), text
        print(text, file=self._stream, flush=True)

    def moment(self, text: str, done: tuple[int, int] | None) -> None:  # noqa: ARG002
        # in a log, the same line again says nothing, nor after an evaluation in between
        if text not in (self._shown, self._moment) and self._clock() - self._last >= PLAIN_SECONDS:
            self.line(text)
            self._moment = text

    def close(self) -> None:
        pass


class _BarsAndBoard(Bars):
    """A bar, and lines below it."""

    lines: Sequence[str] = ()

    def get_renderable(self) -> RenderableType:
        below = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self.lines]
        return Group(super().get_renderable(), *below)


class _Live:
    """A live line and the board of the study, below the lines that stay."""

    def __init__(self, console: Console) -> None:
        one_line = Column(no_wrap=True, overflow="ellipsis")
        columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False, table_column=one_line)
        self._bars = _BarsAndBoard(*columns, console=console, transient=True, redirect_stdout=False)
        self._task = self._bars.add_task("", total=None)
        self._bars.start()

    def line(self, text: str, style: str = "") -> None:
        self._bars.console.print(Text(text, style=style), highlight=False)

    def moment(self, text: str, done: tuple[int, int] | None) -> None:
        completed, total = done if done is not None else (0, None)
        self._bars.update(self._task, description=text, completed=completed, total=total)

    def board(self, lines: Sequence[str]) -> None:
        self._bars.lines = lines
        self._bars.refresh()

    def close(self) -> None:
        self._bars.stop()


class Progress:
    """An observer of runs that shows progress on stderr. A context manager, so that the terminal is restored.

    `done_before` runs of `total` were finished earlier; without a total, runs are not numbered. NO_COLOR and TERM=dumb
    are honoured. Of the scores of a run that has ended, that of `metric` is shown. `board` has further lines on the
    study for a live display. It is asked when a run has ended, and else every few seconds.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        done_before: int = 0,
        stream: TextIO | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        metric: str = METRIC,
        board: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._metric, self._board, self._board_at = metric, board, -BOARD_SECONDS
        self._total, self._number, self._clock = total, done_before, clock
        # a terminal that is gone, or a reader that has left (2>&1 | head), must not stop the study
        self._stream = cast(TextIO, LastingStream(stream if stream is not None else sys.stderr))
        self._quiet = quiet
        self._display: _Display = _Silent()
        self._runs: dict[str, _Running] = {}
        self.workers: Team | None = None
        """Who works, if the executor says so."""

    def __enter__(self) -> Self:
        if not self._quiet:
            console = Console(file=self._stream)
            live = self._stream.isatty() and not console.is_dumb_terminal
            self._display = _Live(console) if live else _Plain(self._stream, self._clock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()
        self._display = _Silent()

    def started(self, job: Job) -> None:
        """A run starts."""
        self._number += 1
        self._runs.pop(job.run_id, None)
        self._display.moment(self._about(job, *self._run(job).state.words()), None)

    def event(self, job: Job, event: Event) -> None:
        """A run reports something."""
        state = self._run(job).state
        first_time = isinstance(event, PhaseStarted) and event.phase not in state.entered
        state.take(event)
        if self._clock() - self._board_at >= BOARD_SECONDS:
            self._show_board()
        if isinstance(event, Note):
            self._display.line(self._about(job, sanitize(event.text)), "yellow")
        elif isinstance(event, Validated):
            best = ", the best so far" if event.best else ""
            words = f"validation loss {event.loss:.4g} at step {event.step}, epoch {event.epoch:.3g}{best}"
            self._display.line(self._about(job, words))
        elif first_time and isinstance(self._display, _Plain):
            self._display.line(self._about(job, *state.words()))
        else:
            self._display.moment(self._about(job, *state.words()), state.done)

    def ended(self, job: Job, run: StoredRun) -> None:
        """A run has ended."""
        record = run.record
        words = [f"{record.status} after {format_duration(self._clock() - self._run(job).began)}"]
        if record.curve.cut_at is not None:
            words.append(f"pruned at step {record.curve.cut_at}")
        if record.failure is not None:
            words.append(sanitize((record.failure.message.splitlines() or [""])[0]))
        elif (score := record.scores.get(self._metric)) is not None:
            words.append(f"{METRICS[self._metric].title if self._metric in METRICS else self._metric} {score:.4f}")
        self._display.line(self._about(job, *words), _STYLES.get(record.status, ""))
        del self._runs[job.run_id]
        self._show_board()

    def team(self, team: Team) -> None:
        """Who works now: for the board, which is shown again. Lines that stay say nothing of it."""
        self.workers = team
        self._show_board()

    def _show_board(self) -> None:
        if self._board is not None and isinstance(self._display, _Live):
            self._display.board(self._board())
            self._board_at = self._clock()

    def _run(self, job: Job) -> _Running:
        """Several runs may be in progress. An observer that joins late counts from there."""
        return self._runs.setdefault(job.run_id, _Running(self._number, self._clock(), LiveRun()))

    def _about(self, job: Job, *words: str) -> str:
        number = "" if self._total is None else f"[{self._run(job).number}/{self._total}] "
        return f"{number}{sanitize(job.name)}: {', '.join(words)}"
