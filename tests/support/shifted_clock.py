"""A process whose clock is wrong, as on a machine without a time server. Times of files stay those of the system."""

import datetime
import sys
import time
from typing import Self

_SYSTEM_TIME, _SYSTEM_TIME_NS = time.time, time.time_ns


def shift_clock(seconds: int) -> None:
    """Add `seconds` to the time of day of this process, for the rest of its life.

    What measures durations (`time.monotonic`) is right on such a machine too.
    """
    shift = datetime.timedelta(seconds=seconds)

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return super().now(tz) + shift

    def shifted_time() -> float:
        return _SYSTEM_TIME() + seconds

    def shifted_ns() -> int:
        return _SYSTEM_TIME_NS() + seconds * 10**9

    replaced: list[tuple[object, object]] = [
        (datetime.datetime, Shifted),
        (_SYSTEM_TIME, shifted_time),
        (_SYSTEM_TIME_NS, shifted_ns),
    ]
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("tuneoff", "support")]
    for module in (time, datetime, *ours):  # ours may have imported one of them by its name
        for name, value in list(vars(module).items()):
            for system, shifted in replaced:
                if value is system and module.__name__ != __name__:
                    setattr(module, name, shifted)
