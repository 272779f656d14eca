"""A tracker in a process of its own neither stops nor delays a study, whatever it does."""

import time
from pathlib import Path

import pytest
from fake_tracked import spec
from foreign_tracker import feed, opened

from tuneoff.errors import UserError
from tuneoff.trackers import close_trackers, process


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("raise OSError('no room')", "OSError: no room"),
        ("os._exit(9)", "its process has ended"),
        ("os.kill(os.getpid(), 9)", "its process has ended"),
    ],
)
def test_one_that_fails_or_dies_is_switched_off_with_one_line(
    tmp_path: Path, event: str, why: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = opened(tmp_path, monkeypatch, event=event)
    for _ in range(3):
        feed(tracker)
    assert close_trackers([tracker]) == []
    assert capfd.readouterr() == ("", f"lines is switched off, the runs go on ({why})\n")


def test_one_that_hangs_delays_a_run_by_no_more_than_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "FINISH_SECONDS", 0.2)
    monkeypatch.setattr(process, "CLOSING_SECONDS", 0.5)
    tracker = opened(tmp_path, monkeypatch, event="time.sleep(600)")
    began = time.monotonic()
    for _ in range(5):
        feed(tracker)
    assert close_trackers([tracker]) == []
    assert time.monotonic() - began < 60
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ("lines is switched off, the runs go on (no answer for 0 s; what it had not sent is lost)\n")


def test_one_that_does_not_start_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.5)
    monkeypatch.setattr(process, "FINISH_SECONDS", 0.2)
    with pytest.raises(UserError, match="--report-to lines: the tracker has not started within 0 s; correct its"):
        opened(tmp_path, monkeypatch, opening="time.sleep(600)")


def test_it_ends_with_the_study_that_forgets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = opened(tmp_path, monkeypatch)
    tracker.start("lora-s0", "study", spec())
    del tracker
    end = time.monotonic() + 60
    while "study" not in (tmp_path / "lines.txt").read_text() and time.monotonic() < end:
        time.sleep(0.05)
