"""Experiment trackers: they run in the process of the study, receive events, and can never stop a run."""

from tuneoff.trackers.base import Closing, Figures, GuardedTracker, Predictions, Tracker
from tuneoff.trackers.registry import TRACKERS, check_trackers, open_tracker, open_trackers

__all__ = [
    "TRACKERS",
    "Closing",
    "Figures",
    "GuardedTracker",
    "Predictions",
    "Tracker",
    "check_trackers",
    "open_tracker",
    "open_trackers",
]
