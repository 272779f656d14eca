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
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tuneoff.errors import UserError
from tuneoff.regular_files import read_limited
from tuneoff.results.json_files import write_text_atomic
from tuneoff.text import format_duration, sanitize

CLAIMS = "claims"
LEASE_SECONDS = 180.0
BEATS_IN_A_LEASE = 6
SILENT_BEATS = 2  # that are missing before a worker is called silent: one may be late
_MOST_BYTES = 10_000
_MOST_CLAIMS = 10_000  # of one run: a worker that dies again and again makes some hundreds
_MOST_LETTERS = 60  # of the name of a worker, where it is shown
_NAMELESS = "another worker"

WorkerState = Literal["working", "silent", "lost"]


@dataclass(frozen=True)
class Worker:
    """Who carries out a run, and when it last showed a sign of life."""

    name: str
    """Host and process, such as `node7:4242`. Another machine may have written it: show `label`."""
    run: str
    """Name of the run's folder."""
    seconds: float | None = None
    """For how long; None if that is not known."""
    silent_seconds: float = 0.0
    """Since its last sign of life, by the clock of this process."""
    state: WorkerState = "working"
    """`lost`: another worker may take the run over."""

    @property
    def label(self) -> str:
        """The name, short and harmless for a terminal."""
        return worker_label(self.name)

    def words(self, run: str) -> str:
        """Who carries out a run that is called `run`, for how long, and whether a sign of life is missing."""
        parts = [run if self.seconds is None else f"{run} for {format_duration(self.seconds)}"]
        parts += ["lost"] if self.state == "lost" else []
        parts += [f"silent for {format_duration(self.silent_seconds)}"] if self.state != "working" else []
        return f"{self.label}: {', '.join(parts)}"


@dataclass(frozen=True)
class Team:
    """Who carries out a study now."""

    workers: tuple[Worker, ...] = ()
    capacity: int | None = None
    """Runs that can be carried out at the same time; None if that is not known."""


def worker_label(name: str) -> str:
    """The name of a worker, which another machine may have written, short and harmless for a terminal."""
    words = sanitize(" ".join(name.split())) or _NAMELESS
    return words if len(words) <= _MOST_LETTERS else f"{words[: _MOST_LETTERS - 3]}..."


@dataclass(frozen=True)
class Holder:
    """Who made a claim, and what it says of itself."""

    run: str
    number: int
    worker: str = _NAMELESS
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
    _claims: dict[str, tuple[int, dict[str, object]]] = field(default_factory=dict)  # run -> number, claim

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

    def holders(self, done: Container[str] = ()) -> Iterator[Holder]:
        """The last claim of every run that was claimed, by name. Runs in `done` are not looked at."""
        for folder in sorted((self.study / CLAIMS).glob("*")):
            if folder.name not in done and (holder := self.holder(folder.name)) is not None:
                yield holder

    def workers(self, done: Container[str] = ()) -> list[Worker]:
        """Who carries out which run, by name of the run. Runs in `done` are not looked at.

        How long a worker is silent is known from the first of these looks on.
        """
        found = [self._worker(holder) for holder in self.holders(done) if holder.ended is None]
        for run in self._claims.keys() - {worker.run for worker in found}:
            self.forget(run)
        return found

    def lost_before(self, run: str, number: int) -> str | None:
        """The worker of the claim before this one, if it has never ended that; else None."""
        folder = self.study / CLAIMS / run
        if number < 2 or (folder / f"{number - 1}.ended").exists():
            return None
        return _worker_of(_read(folder / f"{number - 1}.json"))

    def forget_failures(self) -> None:
        """Let runs that failed be tried again. Raises `OSError`."""
        for holder in self.holders():
            if holder.ended == "failed":
                Claim(self.study / CLAIMS / holder.run, holder.run, holder.number).release()

    def forget(self, run: str) -> None:
        """Keep nothing of a run that has ended: a study may have 10,000."""
        self._seen.pop(run, None)
        self._claims.pop(run, None)

    def release_lost(self, workers: str, run: str | None = None) -> None:
        """End the claims of dead processes, whose names begin with `workers`: of `run`, or of all. Raises `OSError`."""
        holders = self.holders() if run is None else filter(None, [self.holder(run)])
        for holder in holders:
            if holder.ended is None and holder.worker.startswith(workers):
                Claim(self.study / CLAIMS / holder.run, holder.run, holder.number).release()

    def _holder(self, folder: Path, number: int, there: Collection[str]) -> Holder:
        """`there`: names of the files in the folder; what is not among them is not looked for."""
        known, claim = self._claims.get(folder.name, (0, {}))
        if known != number or not claim:  # it never changes once it is written
            claim = _read(folder / f"{number}.json")
            self._claims[folder.name] = number, claim
        beat, ended = (
            _read(folder / name) if (name := f"{number}.{kind}") in there else {} for kind in ("beat", "ended")
        )
        count, how = beat.get("count"), ended.get("how")
        return Holder(
            folder.name,
            number,
            worker=_worker_of(claim),
            since=str(claim.get("since", ""))[:40],
            beat=count if isinstance(count, int) else 0,
            ended=None if how is None else str(how)[:40],
        )

    def _worker(self, holder: Holder) -> Worker:
        silent = self._silent_seconds(holder)
        is_silent = silent >= SILENT_BEATS * self.lease_seconds / BEATS_IN_A_LEASE
        state: WorkerState = "lost" if silent >= self.lease_seconds else "silent" if is_silent else "working"
        return Worker(holder.worker, holder.run, _seconds_since(holder.since), silent, state)

    def _has_expired(self, holder: Holder) -> bool:
        """Whether this process has watched the claim for the time of a lease without a new beat."""
        return self._silent_seconds(holder) >= self.lease_seconds

    def _silent_seconds(self, holder: Holder) -> float:
        """For how long this process has watched the claim without a new beat."""
        now = self.clock()
        number, beat, since = self._seen.get(holder.run, (None, None, now))
        if (number, beat) != (holder.number, holder.beat):
            self._seen[holder.run] = holder.number, holder.beat, now
            return 0.0
        return now - since


def _seconds_since(time_of_day: str) -> float | None:
    """By the clocks of two machines, so only to be shown; None for what is not a time."""
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time_of_day)).total_seconds())
    except (ValueError, TypeError):
        return None


def _worker_of(claim: dict[str, object]) -> str:
    return str(claim.get("worker", _NAMELESS))[:200]


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
