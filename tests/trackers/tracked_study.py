"""A study of two runs, tracked and read back by the package of the tracker."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_tracked import EVENTS, PREDICTIONS, record, spec
from offline_run import PNG

from tuneoff.trackers import Closing, open_tracker


def track(name: str, folder: Path) -> str | None:
    """Two runs, of which the second fails, and closing words."""
    figure = folder / "loss.png"
    figure.write_bytes(PNG)
    tracker = open_tracker(name, folder)
    tracker.start("lora-s0", "starter", spec())
    for event in EVENTS:
        tracker.event(event)
    tracker.finish(record("lora-s0", "finished"), lambda: [figure], lambda: PREDICTIONS)
    tracker.start("full-s0", "starter", spec())
    tracker.finish(record("full-s0", "failed"))
    assert isinstance(tracker, Closing)
    return tracker.closing_words()


def read_back(name: str, code: str, closing: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Track a study in `folder`; returns what `code`, run in a process of its own, prints about it as JSON.

    Nothing of what a tracker's package prints may reach the program's output.
    """
    words = track(name, folder)
    assert words is not None
    assert closing in words
    assert capfd.readouterr() == ("", "")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
