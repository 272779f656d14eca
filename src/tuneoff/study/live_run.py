"""How far one run is, according to its events: for the progress of a study here, and for whoever watches its folder."""

from collections import deque

from tuneoff.results.events import Event, Generated, PhaseStarted, Sampled, StepDone
from tuneoff.text import format_duration

_RECENT_STEPS = 20


class LiveRun:
    """How far one run is, according to its events."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.entered: dict[str, float] = {}  # seconds at which each phase was first entered
        self.done: tuple[int, int] | None = None
        self.memory_bytes: int | None = None  # of the last sample
        self._done_before = 0  # steps of an earlier attempt, which are reported again before this one trains
        self._unit = "step"
        self._seconds = 0.0
        self._loss: float | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT_STEPS)

    def take(self, event: Event) -> None:
        """Add an event."""
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
            if event.phase == "train" and event.phase not in self.entered and self.done is not None:
                self._done_before = self.done[0]
            self.entered.setdefault(event.phase, event.seconds)
            if event.phase == "generate":
                self.done, self._done_before = None, 0
        elif isinstance(event, StepDone):
            self.done, self._unit, self._seconds = (event.step, event.steps), "step", event.seconds
            self._loss = event.loss
            self._recent.append((event.seconds, event.tokens * event.covers))
        elif isinstance(event, Sampled):
            self.memory_bytes = event.memory_bytes
        elif isinstance(event, Generated):
            self.done, self._unit, self._seconds = (event.done, event.total), "text", event.seconds

    def words(self) -> list[str]:
        """Phase, steps or texts, time left; of training also loss and speed."""
        # the time of saving a state is booked as loading, because the method does not need it
        words = ["checkpoint" if self.phase == "load" and "train" in self.entered else self.phase]
        if self.done is not None and self.phase != "load":
            words.append(f"{self._unit} {self.done[0]} of {self.done[1]}")
        if self.phase == "train" and self._loss is not None:
            words.append(f"loss {self._loss:.4g}")
            speed = self._tokens_per_second()
            if speed is not None:
                words.append(f"{speed:,.0f} tokens/s")
        left = self._seconds_left()
        if left is not None:
            words.append(f"{format_duration(left)} left")
        return words

    def _tokens_per_second(self) -> float | None:
        """Over the last steps; the first of them only starts the clock."""
        if len(self._recent) < 2:
            return None
        elapsed = self._recent[-1][0] - self._recent[0][0]
        return sum(tokens for _, tokens in list(self._recent)[1:]) / elapsed if elapsed > 0 else None

    def _seconds_left(self) -> float | None:
        """Of training or of generation, at the mean speed so far, evaluations included."""
        start = self.entered.get("train" if self._unit == "step" else "generate")
        if self.done is None or start is None or not self._done_before < self.done[0] < self.done[1]:
            return None
        return (self._seconds - start) / (self.done[0] - self._done_before) * (self.done[1] - self.done[0])
