"""The process of a tracker passes everything on, and drops what is printed in it."""

from pathlib import Path

import pytest
from foreign_tracker import Opened, feed

from tuneoff.trackers import close_trackers


def test_it_receives_everything_and_its_output_is_dropped(
    opened: Opened, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = opened()
    feed(tracker)
    assert close_trackers([tracker]) == ["all is in lines.txt"]
    assert (tmp_path / "lines.txt").read_text(encoding="utf-8").splitlines() == [
        "study/lora-s0 lora",
        "phase",
        "step",
        "finished ['loss.png'] ['first \U0001f600 text', 'second']",
    ]
    assert capfd.readouterr() == ("", "")
