"""The steps of a training that are kept and reported: all of a short one, a bounded number of a long one."""

from collections.abc import Iterable

from tuneoff.results.run_record import TrainPoint

# Several times as many as a chart has pixels for. A record of so many points is half a megabyte.
MOST_POINTS = 2000


class ThinnedSteps:
    """The steps of one training, in order.

    Whenever more than `MOST_POINTS` steps are kept, every second one of them is dropped. So a training of at most that
    many steps keeps all of them. A longer one keeps step 1, every `stride`-th step after it and the last step, which is
    between half of the limit and the whole limit. What is kept depends only on the number of steps.
    """

    def __init__(self, points: Iterable[TrainPoint] = ()) -> None:
        """Start with the `points` that were kept of an earlier attempt."""
        self.points = list(points)
        self._stride = self.points[1].step - self.points[0].step if len(self.points) > MOST_POINTS // 2 else 1

    def add(self, point: TrainPoint) -> bool:
        """Add the next step. Returns whether it is worth an event: whether it was kept when it was not the last one."""
        if self.points and not self._is_kept(self.points[-1]):
            self.points.pop()
        self.points.append(point)
        while len(self.points) > MOST_POINTS:
            self._stride *= 2
            self.points = [*filter(self._is_kept, self.points[:-1]), point]
        return self._is_kept(point)

    def _is_kept(self, point: TrainPoint) -> bool:
        """Whether the step stays when another one follows."""
        return (point.step - 1) % self._stride == 0
