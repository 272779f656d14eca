"""The trackers by name.

Another package adds a tracker by an entry point of the group `tuneoff.trackers`: its name is what `--report-to` takes,
and its object is called with a folder for the tracker's files and returns a `Tracker`.
"""

import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.plugins import Registry
from tuneoff.trackers.base import Closing, GuardedTracker, Tracker

# As transformers reads them. A script that was written for its Trainer may set one.
SWITCHES = {"wandb": "WANDB_DISABLED"}
_TRUE = {"1", "ON", "YES", "TRUE"}
# Their runs begin and end in this process, one after the other. Of a shared study, that is this machine's part.
_FOLLOWED_ENGINES = ("local", "shared")

MakeTracker = Callable[[Path], Tracker]


def _mlflow(folder: Path) -> Tracker:
    from tuneoff.trackers.mlflow import MlflowTracker

    return MlflowTracker(folder)


def _tensorboard(folder: Path) -> Tracker:
    from tuneoff.trackers.tensorboard import TensorboardTracker

    return TensorboardTracker(folder)


def _trackio(_folder: Path) -> Tracker:
    from tuneoff.trackers.trackio import TrackioTracker

    return TrackioTracker()


def _wandb(folder: Path) -> Tracker:
    from tuneoff.trackers.wandb import WandbTracker

    return WandbTracker(folder)


def _check_tracker(name: str, loaded: object) -> MakeTracker:
    if name == "none":
        raise ValueError("`--report-to none` means no tracker")
    if not callable(loaded):
        raise ValueError(f"{loaded!r} cannot be called with a folder")
    return loaded


TRACKERS: Mapping[str, MakeTracker] = Registry(
    "tuneoff.trackers",
    {"mlflow": _mlflow, "tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb},
    _check_tracker,
)


def check_trackers(names: Sequence[str], workers: int | None, engine: str = "local") -> None:
    """Raise `UserError` for a name that is unknown, and for a tracker that cannot follow the runs. Opens nothing.

    `workers`: number of concurrent runs; None if it is still to be measured. `engine`: what carries them out.
    """
    wanted = [name for name in names if name != "none"]
    for name in wanted:
        _check_name(name)
    if wanted and workers != 1:
        number = "auto" if workers is None else workers
        raise UserError(f"--workers {number}: a tracker follows one run at a time; leave out --workers or --report-to")
    if wanted and engine.partition(":")[0] not in _FOLLOWED_ENGINES:
        raise UserError(
            f"--engine {engine}: its runs are out of sight of a tracker, which follows those of this process; leave "
            "out --report-to"
        )


def open_trackers(names: Sequence[str], folder: Path, workers: int | None = 1, engine: str = "local") -> list[Tracker]:
    """Guarded trackers by name, without `none` and what the environment switches off; stderr says so.

    Raises `UserError` as `check_trackers` and `open_tracker` do.
    """
    check_trackers(names, workers, engine)
    wanted = []
    for name in dict.fromkeys(names):
        variable = SWITCHES.get(name)
        if variable is not None and os.environ.get(variable, "").upper() in _TRUE:
            print(f"{variable} is set, so nothing is reported to {name}", file=sys.stderr)
        elif name != "none":
            wanted.append(name)
    return [open_tracker(name, folder) for name in wanted]


def open_tracker(name: str, folder: Path) -> Tracker:
    """A guarded tracker by name, in a process of its own. It keeps its files in `folder`.

    Raises:
        UserError: The tracker is unknown or not installed, or it cannot start (no account, for example).
    """
    _check_name(name)
    TRACKERS[name]  # refuses a package that cannot be used, which its process would only repeat
    from tuneoff.trackers.process import TrackerProcess

    return GuardedTracker(TrackerProcess(name, folder), name)


def close_trackers(trackers: Sequence[Tracker]) -> list[str]:
    """Let trackers end what they have begun, after the last run; returns what they tell people."""
    words = [tracker.closing_words() for tracker in trackers if isinstance(tracker, Closing)]
    return [each for each in words if each is not None]


def _check_name(name: str) -> None:
    if name not in TRACKERS:
        close = difflib.get_close_matches(name.lower(), TRACKERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(TRACKERS)}"
        raise UserError(f"--report-to: unknown tracker {name!r}; {hint}")
