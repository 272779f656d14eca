"""A tracker of another package, which does what a test wants, and a run for it."""

from pathlib import Path

import pytest
from fake_tracked import EVENTS, PREDICTIONS, record, spec

from fake_package import write_package
from tuneoff.trackers import Tracker, open_tracker

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


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, opening: str = "pass", event: str = "pass") -> Tracker:
    """A tracker of another package that does `opening` first, and `event` at each event."""
    site = folder / "site"
    monkeypatch.syspath_prepend(str(site))
    source = TRACKER.format(opening=opening, event=event)
    write_package(site, "author-tracker", source, "[tuneoff.trackers]\nlines = author_tracker:Lines\n")
    return open_tracker("lines", folder)


def feed(tracker: Tracker) -> None:
    tracker.start("lora-s0", "study", spec())
    for event in EVENTS[:2]:
        tracker.event(event)
    tracker.finish(record("lora-s0", "finished"), lambda: [Path("loss.png")], lambda: PREDICTIONS)
