"""A tracker in a process of its own neither stops nor delays a study, whatever it does."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_tracked import EVENTS, PREDICTIONS, record, spec

from fake_package import write_package
from tuneoff.errors import UserError
from tuneoff.trackers import Tracker, close_trackers, open_tracker, process

TRACKER = """
import os, sys, time

class Lines:
    def __init__(self, folder):
        self.file = folder / "lines.txt"
        {opening}

    def start(self, name, group, spec):
        print("printed", flush=True)
        print("printed", file=sys.stderr, flush=True)
        self.write(f"{{group}}/{{name}} {{spec.method.name}}")

    def event(self, event):
        {event}
        self.write(event.kind)

    def finish(self, record, figures=tuple, predictions=tuple):
        self.write(record.status, [path.name for path in figures()], [row.text for row in predictions()])

    def closing_words(self):
        return "all is in lines.txt"

    def write(self, *words):
        with self.file.open("a", encoding="utf-8") as file:
            print(*words, file=file)
"""
Opened = Callable[..., Tracker]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """`opened(event="...")`: a tracker of another package that does this at each event."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def open_it(opening: str = "", event: str = "") -> Tracker:
        source = TRACKER.format(opening=opening or "pass", event=event or "pass")
        write_package(tmp_path / "site", "author-tracker", source, "[tuneoff.trackers]\nlines = author_tracker:Lines\n")
        return open_tracker("lines", tmp_path)

    return open_it


def feed(tracker: Tracker) -> None:
    tracker.start("lora-s0", "study", spec())
    for event in EVENTS[:2]:
        tracker.event(event)
    tracker.finish(record("lora-s0", "finished"), lambda: [Path("loss.png")], lambda: PREDICTIONS)


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


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("raise OSError('no room')", "OSError: no room"),
        ("os._exit(9)", "its process has ended"),
        ("os.kill(os.getpid(), 9)", "its process has ended"),
    ],
)
def test_one_that_fails_or_dies_is_switched_off_with_one_line(
    opened: Opened, event: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = opened(event=event)
    for _ in range(3):
        feed(tracker)
    assert close_trackers([tracker]) == []
    assert capfd.readouterr() == ("", f"lines is switched off, the runs go on ({why})\n")


def test_one_that_hangs_delays_a_run_by_no_more_than_a_moment(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "FINISH_SECONDS", 0.2)
    monkeypatch.setattr(process, "CLOSING_SECONDS", 0.5)
    tracker = opened(event="time.sleep(600)")
    began = time.monotonic()
    for _ in range(5):
        feed(tracker)
    assert close_trackers([tracker]) == []
    assert time.monotonic() - began < 60
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ("lines is switched off, the runs go on (no answer for 0 s; what it had not sent is lost)\n")


def test_one_that_does_not_start_is_a_user_error(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.5)
    monkeypatch.setattr(process, "FINISH_SECONDS", 0.2)
    with pytest.raises(UserError, match="--report-to lines: the tracker has not started within 0 s; correct its"):
        opened(opening="time.sleep(600)")


def test_it_ends_with_the_study_that_forgets_it(opened: Opened, tmp_path: Path) -> None:
    tracker = opened()
    tracker.start("lora-s0", "study", spec())
    del tracker
    end = time.monotonic() + 60
    while "study" not in (tmp_path / "lines.txt").read_text() and time.monotonic() < end:
        time.sleep(0.05)
