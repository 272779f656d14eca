"""The process of a tracker passes everything on, and drops what is printed in it."""

from pathlib import Path

import pytest
from foreign_tracker import feed, opened

from tuneoff.trackers import close_trackers


def test_it_receives_everything_and_its_output_is_dropped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = opened(tmp_path, monkeypatch)
    feed(tracker)
    assert close_trackers([tracker]) == ["all is in lines.txt"]
    assert (tmp_path / "lines.txt").read_text(encoding="utf-8").splitlines() == [
        "study/lora-s0 lora",
        "phase",
        "step",
        "finished ['loss.png'] ['first \U0001f600 text', 'second']",
    ]
    assert capfd.readouterr() == ("", "")
