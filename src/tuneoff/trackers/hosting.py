"""The process that a tracker lives in. Messages arrive as JSON lines on stdin, and answers leave as JSON lines.

What a tracker or its libraries print would mix with the program's output, so it is dropped.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneoff import stopping
from tuneoff.errors import UserError
from tuneoff.results.events import EVENT
from tuneoff.results.run_record import Prediction, Record
from tuneoff.spec import RunSpec
from tuneoff.trackers.base import Closing, Tracker

STDIN, STDOUT, STDERR = 0, 1, 2


def host(make: Callable[[Path], Tracker], folder: str) -> None:
    """Open a tracker, answer `ready`, then pass on what arrives until stdin ends or the tracker fails.

    Every message is answered: `done`, with `words` after `close`; `refused` is a user's mistake, `failed` any error.
    """
    for name in stopping.NAMES:  # the program decides when this process ends, by closing stdin
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    answers = os.fdopen(os.dup(STDOUT), "w", buffering=1, encoding="utf-8")
    with Path(os.devnull).open("r+b") as nothing:
        os.dup2(nothing.fileno(), STDOUT)
        os.dup2(nothing.fileno(), STDERR)

    def answer(**said: object) -> None:
        answers.write(json.dumps(said) + "\n")

    try:
        tracker = make(Path(folder))
        answer(ready=True)
        running = False
        for line in sys.stdin:
            message = json.loads(line)
            answer(done=True, words=_pass_on(tracker, message))
            running = message["kind"] in ("start", "event")
        if running:  # the program has ended in the middle of a run: libraries mark that run by this code
            raise SystemExit(1)
    except UserError as error:
        answer(refused=str(error))
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {error}")


def _pass_on(tracker: Tracker, message: dict[str, Any]) -> str | None:
    kind = message["kind"]
    if kind == "start":
        tracker.start(message["name"], message["group"], RunSpec.model_validate(message["spec"]))
    elif kind == "event":
        tracker.event(EVENT.validate_python(message["event"]))
    elif kind == "finish":
        predictions = [Prediction.model_validate(row) for row in message["predictions"]]
        figures = [Path(path) for path in message["figures"]]
        tracker.finish(Record.model_validate(message["record"]), lambda: figures, lambda: predictions)
    elif isinstance(tracker, Closing):
        return tracker.closing_words()
    return None
