"""Claims of runs in a study folder that several machines share: who carries out which run, and whether it still lives.

Every claim of a run is a new file, `claims/<run>/<number>.json`, which only one process can make. Its owner writes a
growing number into `<number>.beat` from time to time. Whoever waits watches that number by a clock of its own: if it
has not changed for the time of a lease, the next claim may be made. Clocks of machines are never compared, and no lock
of the file system is needed.

A process that was only asleep may come back to a run that has another claim by then. Therefore a claim decides who
works, and never which results count: a run is accepted by one rename (`tuneoff.study.shared_folder`).
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.regular_files import read_limited
from tuneoff.results.json_files import write_text_atomic

CLAIMS = "claims"
LEASE_SECONDS = 180.0
BEATS_IN_A_LEASE = 6
_MOST_BYTES = 10_000
_MOST_CLAIMS = 10_000  # of one run: a worker that dies again and again makes some hundreds


@dataclass(frozen=True)
class Holder:
    """Who made a claim, and what it says of itself."""

    run: str
    number: int
    worker: str = "another worker"
    since: str = ""
    beat: int = 0
    ended: str | None = None
    """How it has ended: `released` or `failed`; None while it holds."""


@dataclass(frozen=True)
class Claim:
    """A claim of this process."""

    folder: Path
    run: str
    number: int

    def beat(self, count: int) -> None:
        """Show that this process lives. Raises `OSError`."""
        self._write("beat", {"count": count})

    def release(self, how: str = "released") -> None:
        """End the claim: others need not wait for a lease. `failed`: others of this start should not try it again."""
        self._write("ended", {"how": how})

    def _write(self, kind: str, content: dict[str, object]) -> None:
        if self.folder.is_dir():  # else the study has ended, and its claims were removed
            write_text_atomic(self.folder / f"{self.number}.{kind}", json.dumps(content))


@dataclass
class Claims:
    """The claims of one study folder, as one process sees them.

    Attributes:
        study: the study folder.
        worker: what this process is called in its claims.
        lease_seconds: how long a claim without a beat holds.
        clock: seconds of this process.
    """

    study: Path
    worker: str
    lease_seconds: float = LEASE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[int, int, float]] = field(default_factory=dict)  # run -> claim, beat, time of the beat
    _claims: dict[tuple[str, int], dict[str, object]] = field(default_factory=dict)

    def take(self, run: str, now: str) -> Claim | None:
        """Claim `run`; None while another process holds it, or if another one was faster. `now`: the time, to be shown.

        Raises `OSError` if the folder cannot be written, and `UserError` for claims that cannot be tuneoff's.
        """
        holder = self.holder(run)
        return None if holder is not None and self.holds(holder) else self.take_after(holder, run, now)

    def holds(self, holder: Holder) -> bool:
        """Whether the claim has not ended, and its owner seems to live."""
        return holder.ended is None and not self._has_expired(holder)

    def take_after(self, holder: Holder | None, run: str, now: str) -> Claim | None:
        """As `take`, where `holder` was seen to hold `run` no longer."""
        folder = self.study / CLAIMS / run
        if holder is not None and holder.number >= _MOST_CLAIMS:
            raise UserError(
                f"{folder}: claim number {holder.number:,}, which a study never reaches; remove that folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 if holder is None else holder.number + 1
        try:
            handle = os.open(folder / f"{number}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"worker": self.worker, "since": now}, stream)
        return Claim(folder, run, number)

    def holder(self, run: str) -> Holder | None:
        """Who made the last claim of a run; None if nobody ever did."""
        folder = self.study / CLAIMS / run
        try:
            there = set(os.listdir(folder))  # noqa: PTH208 - many times as fast as a glob, and every look does it
        except OSError:
            return None
        number = max(_numbers(there), default=0)
        return self._holder(folder, number, there) if number else None

    def holders(self) -> Iterator[Holder]:
        """The last claim of every run that was claimed, by name."""
        for folder in sorted((self.study / CLAIMS).glob("*")):
            if (holder := self.holder(folder.name)) is not None:
                yield holder

    def forget_failures(self) -> None:
        """Let runs that failed be tried again. Raises `OSError`."""
        for holder in self.holders():
            if holder.ended == "failed":
                Claim(self.study / CLAIMS / holder.run, holder.run, holder.number).release()

    def forget(self, run: str) -> None:
        """Keep nothing of a run that has ended: a study may have 10,000."""
        if (seen := self._seen.pop(run, None)) is not None:
            self._claims.pop((run, seen[0]), None)

    def release_lost(self, workers: str, run: str | None = None) -> None:
        """End the claims of dead processes, whose names begin with `workers`: of `run`, or of all. Raises `OSError`."""
        holders = self.holders() if run is None else filter(None, [self.holder(run)])
        for holder in holders:
            if holder.ended is None and holder.worker.startswith(workers):
                Claim(self.study / CLAIMS / holder.run, holder.run, holder.number).release()

    def _holder(self, folder: Path, number: int, there: Collection[str]) -> Holder:
        """`there`: names of the files in the folder; what is not among them is not looked for."""
        key = folder.name, number
        claim = self._claims.get(key)
        if not claim:  # it never changes once it is written
            claim = self._claims[key] = _read(folder / f"{number}.json")
        beat, ended = (
            _read(folder / name) if (name := f"{number}.{kind}") in there else {} for kind in ("beat", "ended")
        )
        count, how = beat.get("count"), ended.get("how")
        return Holder(
            folder.name,
            number,
            worker=str(claim.get("worker", Holder.worker))[:200],
            since=str(claim.get("since", ""))[:40],
            beat=count if isinstance(count, int) else 0,
            ended=None if how is None else str(how)[:40],
        )

    def _has_expired(self, holder: Holder) -> bool:
        """Whether this process has watched the claim for the time of a lease without a new beat."""
        now = self.clock()
        number, beat, since = self._seen.get(holder.run, (None, None, now))
        if (number, beat) != (holder.number, holder.beat):
            self._seen[holder.run] = holder.number, holder.beat, now
            return False
        return now - since >= self.lease_seconds


def _numbers(files: Iterable[str]) -> list[int]:
    names = (name.removesuffix(".json") for name in files if name.endswith(".json"))
    return [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10]


def _read(path: Path) -> dict[str, object]:
    """A small JSON object; empty for a file that is not there, half-written, or anything else."""
    try:
        found = json.loads(read_limited(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return found if isinstance(found, dict) else {}
