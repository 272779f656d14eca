"""A study of two runs, tracked and read back by the package of the tracker."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tracked import EVENTS, PREDICTIONS, record, spec
from foreign_tracker import TRACKER, Opened
from offline_run import PNG

from fake_package import write_package
from tuneoff.trackers import Closing, Tracker, open_tracker


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


@pytest.fixture
def read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str, str, str], Any]:
    """`read_back(name, code, closing)`: what `code`, run in a process of its own, prints as JSON about a tracked study.

    Nothing of what a tracker's package prints may reach the program's output.
    """

    def read(name: str, code: str, closing: str) -> Any:
        words = track(name, tmp_path)
        assert words is not None
        assert closing in words
        assert capfd.readouterr() == ("", "")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return read


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """`opened(event="...")`: a tracker of another package that does this at each event."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def open_it(opening: str = "", event: str = "") -> Tracker:
        source = TRACKER.format(opening=opening or "pass", event=event or "pass")
        write_package(tmp_path / "site", "author-tracker", source, "[tuneoff.trackers]\nlines = author_tracker:Lines\n")
        return open_tracker("lines", tmp_path)

    return open_it
