"""A tracker in a process of its own: it can neither stop nor delay a study, whatever it does."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from tuneoff.errors import UserError
from tuneoff.results.events import EVENT, Event
from tuneoff.results.run_record import Prediction, Record
from tuneoff.spec import RunSpec
from tuneoff.trackers.base import Figures, Predictions, TrackerFailed

START_SECONDS = 60.0
# Between two runs the study waits this long, so that sending does not disturb what the next run measures.
FINISH_SECONDS = 10.0
# After the last run it waits this long for what is not sent yet.
CLOSING_SECONDS = 120.0
_PREDICTIONS = TypeAdapter(list[Prediction])


class TrackerProcess:
    """A `Tracker` whose calls return at once, apart from the end of a run; what they lead to is noticed later.

    Each call raises `TrackerFailed` if an earlier one has failed.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """Start the tracker `name`. Raises `UserError` if it refuses, cannot start, or takes too long."""
        self._process = subprocess.Popen(  # noqa: S603 - this Python and fixed words
            [sys.executable, "-c", _program(name, folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._unanswered = 1  # `ready`
        self._words: str | None = None
        threading.Thread(target=_write, args=(self._messages, self._process.stdin), daemon=True).start()
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()
        self._end = weakref.finalize(self, _end, self._messages, self._process)
        try:
            self._wait(START_SECONDS)
        except TrackerFailed as error:
            self._end()
            raise UserError(
                f"--report-to {name}: the tracker cannot start ({error}); correct its settings or use --report-to none"
            ) from error
        except UserError:
            self._end()
            raise
        if self._unanswered:
            self._end()
            raise UserError(
                f"--report-to {name}: the tracker has not started within {START_SECONDS:.0f} s; correct its settings "
                "or use --report-to none"
            )

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        self._send({"kind": "start", "name": name, "group": group, "spec": spec.model_dump(mode="json")})

    def event(self, event: Event) -> None:
        self._send({"kind": "event", "event": EVENT.dump_python(event, mode="json")})

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        self._send(
            {
                "kind": "finish",
                "record": record.model_dump(mode="json"),
                "figures": [str(path) for path in figures()],
                "predictions": _PREDICTIONS.dump_python(list(predictions()), mode="json"),
            }
        )
        self._wait(FINISH_SECONDS)

    def closing_words(self) -> str | None:
        """Those of the tracker, once it has sent everything. The process has ended when this returns."""
        try:
            self._send({"kind": "close"})
            self._wait(CLOSING_SECONDS)
            if self._unanswered:
                raise TrackerFailed(f"no answer for {CLOSING_SECONDS:.0f} s; what it had not sent is lost")
            return self._words
        finally:
            self._end()

    def _send(self, message: dict[str, Any]) -> None:
        self._wait(0.0)
        self._unanswered += 1
        self._messages.put(json.dumps(message))

    def _wait(self, seconds: float) -> None:
        """Take the answers that there are, and wait up to `seconds` for the others."""
        end = time.monotonic() + seconds
        while self._unanswered:
            try:
                answer = self._answers.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            if "refused" in answer:
                raise UserError(answer["refused"])
            if "failed" in answer:
                raise TrackerFailed(answer["failed"])
            self._unanswered -= 1
            self._words = answer.get("words")


def _program(name: str, folder: Path) -> str:
    return (
        f"import sys; sys.path[:] = {sys.path!r}; from tuneoff.trackers import TRACKERS; "
        f"from tuneoff.trackers.hosting import host; host(TRACKERS[{name!r}], {str(folder)!r})"
    )


def _write(messages: queue.SimpleQueue[str | None], stream: IO[str]) -> None:
    with contextlib.suppress(OSError), stream:  # a process that has ended reads nothing, which `_read` reports
        while (message := messages.get()) is not None:
            stream.write(message + "\n")
            stream.flush()


def _read(stream: IO[str], answers: queue.SimpleQueue[dict[str, Any]]) -> None:
    with stream:
        for line in stream:
            answers.put(json.loads(line))
    answers.put({"failed": "its process has ended"})


def _end(messages: queue.SimpleQueue[str | None], process: subprocess.Popen[str]) -> None:
    """Let the process end by itself, which closes a run that is open; one that does not end is killed."""
    messages.put(None)
    try:
        process.wait(FINISH_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
