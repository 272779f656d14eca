"""Experiment trackers: each has a process of its own, receives events, and can neither stop nor delay a study."""

from tuneoff.trackers.base import Closing, Figures, GuardedTracker, Predictions, Tracker
from tuneoff.trackers.registry import TRACKERS, check_trackers, close_trackers, open_tracker, open_trackers

__all__ = [
    "TRACKERS",
    "Closing",
    "Figures",
    "GuardedTracker",
    "Predictions",
    "Tracker",
    "check_trackers",
    "close_trackers",
    "open_tracker",
    "open_trackers",
]
