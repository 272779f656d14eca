"""A tracker that fails is switched off, and the runs go on."""

import pytest
from fake_tracked import EVENTS, record, spec

from tuneoff.results.events import Event
from tuneoff.results.run_record import Record
from tuneoff.spec import RunSpec
from tuneoff.trackers import Figures, GuardedTracker, Predictions, Tracker


class BrokenTracker:
    """Works until the call that it shall fail in."""

    def __init__(self, fails_in: str, error: BaseException) -> None:
        self.fails_in, self.error = fails_in, error
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails_in:
            raise self.error

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        self._called("start")

    def event(self, event: Event) -> None:
        self._called("event")

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        figures()
        predictions()
        self._called("finish")


def feed(tracker: Tracker) -> None:
    for _ in range(2):
        tracker.start("lora-s0", "study", spec())
        tracker.event(EVENTS[0])
        tracker.event(EVENTS[1])
        tracker.finish(record("lora-s0", "finished"))


@pytest.mark.parametrize(("fails_in", "calls"), [("start", 1), ("event", 2), ("finish", 4), ("never", 8)])
def test_a_tracker_that_raises_is_switched_off_with_one_line(
    fails_in: str, calls: int, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = BrokenTracker(fails_in, ConnectionError("server\x1b[31m gone\nsecond line"))
    feed(GuardedTracker(broken, "wandb"))
    assert len(broken.calls) == calls
    out, err = capsys.readouterr()
    assert out == ""
    expected = "wandb is switched off, the runs go on (ConnectionError: server?[31m gone second line)\n"
    assert err == (expected if fails_in != "never" else "")


def test_ctrl_c_is_not_an_error_of_the_tracker() -> None:
    with pytest.raises(KeyboardInterrupt):
        feed(GuardedTracker(BrokenTracker("event", KeyboardInterrupt()), "wandb"))


def test_closing_words_are_those_of_the_tracker_if_it_has_any(capsys: pytest.CaptureFixture[str]) -> None:
    class Telling(BrokenTracker):
        def closing_words(self) -> str:
            self._called("closing_words")
            return "all is in this folder"

    error = ConnectionError("gone")
    assert GuardedTracker(Telling("never", error), "mine").closing_words() == "all is in this folder"
    assert GuardedTracker(BrokenTracker("never", error), "mine").closing_words() is None
    assert capsys.readouterr().err == ""
    assert GuardedTracker(Telling("closing_words", error), "mine").closing_words() is None
    assert "mine is switched off" in capsys.readouterr().err
