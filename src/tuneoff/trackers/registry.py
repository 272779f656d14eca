"""The trackers by name.

Another package adds a tracker by an entry point of the group `tuneoff.trackers`: its name is what `--report-to` takes,
and its object is called with a folder for the tracker's files and returns a `Tracker`.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.plugins import Registry
from tuneoff.trackers.base import GuardedTracker, Tracker

MakeTracker = Callable[[Path], Tracker]


def _wandb(folder: Path) -> Tracker:
    from tuneoff.trackers.wandb import WandbTracker

    return WandbTracker(folder)


def _check_tracker(name: str, loaded: object) -> MakeTracker:
    if name == "none":
        raise ValueError("`--report-to none` means no tracker")
    if not callable(loaded):
        raise ValueError(f"{loaded!r} cannot be called with a folder")
    return loaded


TRACKERS: Mapping[str, MakeTracker] = Registry("tuneoff.trackers", {"wandb": _wandb}, _check_tracker)


def open_tracker(name: str, folder: Path) -> Tracker:
    """A guarded tracker by name. It keeps its files in `folder`.

    Raises:
        UserError: The tracker is unknown or not installed, or it cannot start (no account, for example).
    """
    if name not in TRACKERS:
        close = difflib.get_close_matches(name.lower(), TRACKERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(TRACKERS)}"
        raise UserError(f"--report-to: unknown tracker {name!r}; {hint}")
    make = TRACKERS[name]
    try:
        return GuardedTracker(make(folder), name)
    except UserError:
        raise
    except Exception as error:  # the code of another package
        raise UserError(
            f"--report-to {name}: the tracker cannot start ({type(error).__name__}: {error}); correct its settings or "
            "use --report-to none"
        ) from error
