"""Claims of runs: one process at a time, taken over when it shows no sign of life, whatever the clocks say."""

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.run_claims import Claims, Worker, worker_label


class Clock:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def claims(study: Path, worker: str, clock: Clock | None = None) -> Claims:
    return Claims(study, worker, lease_seconds=100, clock=clock or Clock())


def test_a_run_has_one_claim(tmp_path: Path) -> None:
    mine = claims(tmp_path, "mine").take("lora-s0", "now")
    assert mine is not None
    assert claims(tmp_path, "other").take("lora-s0", "now") is None
    assert claims(tmp_path, "other").take("lora-s1", "now") is not None
    holder = claims(tmp_path, "").holder("lora-s0")
    assert holder is not None
    assert (holder.worker, holder.since, holder.ended) == ("mine", "now", None)


def test_a_number_of_a_stranger_is_not_counted_from(tmp_path: Path) -> None:
    folder = tmp_path / "claims" / "run"
    folder.mkdir(parents=True)
    (folder / "999999999.json").write_text("{}")
    (folder / "999999999.ended").write_text('{"how": "released"}')
    with pytest.raises(UserError, match=r"run: claim number 999,999,999, which a study never reaches"):
        claims(tmp_path, "mine").take("run", "now")


def test_a_claim_holds_while_it_beats(tmp_path: Path) -> None:
    clock = Clock()
    mine, other = claims(tmp_path, "mine").take("run", ""), claims(tmp_path, "other", clock)
    assert mine is not None
    for count in range(5):
        mine.beat(count)
        assert other.take("run", "") is None
        clock.seconds += 99
    clock.seconds += 1
    assert other.take("run", "") is not None
    assert mine.number == 1
    holder = other.holder("run")
    assert holder is not None
    assert (holder.worker, holder.number) == ("other", 2)


@pytest.mark.parametrize("shift", [-300.0, 0.0, 300.0])
def test_clocks_of_machines_are_not_compared(tmp_path: Path, shift: float) -> None:
    """The other process has looked for less than a lease, whatever its clock says."""
    mine, clock = claims(tmp_path, "mine").take("run", "2020-01-01"), Clock(1000 + shift)
    other = claims(tmp_path, "other", clock)
    assert mine is not None
    assert other.take("run", "") is None
    clock.seconds += 99
    assert other.take("run", "") is None


def test_a_released_claim_needs_no_lease(tmp_path: Path) -> None:
    mine = claims(tmp_path, "mine").take("run", "")
    assert mine is not None
    mine.release("failed")
    holder = claims(tmp_path, "").holder("run")
    assert holder is not None
    assert holder.ended == "failed"
    again = claims(tmp_path, "other").take("run", "")
    assert again is not None
    assert again.number == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"count": "x"}', '{"worker": 3}', "\0" * 20_000])
def test_damaged_files_of_a_claim_are_a_claim_without_words(tmp_path: Path, content: str) -> None:
    mine = claims(tmp_path, "mine").take("run", "")
    assert mine is not None
    for name in ("1.json", "1.beat", "1.ended", "x.json", "99999999999.json"):
        (mine.folder / name).write_text(content)
    clock = Clock()
    other = claims(tmp_path, "other", clock)
    assert other.take("run", "") is None
    clock.seconds += 100
    assert other.take("run", "") is not None


def _take_all(study: Path, names: list[str], start: "multiprocessing.synchronize.Barrier") -> list[str]:
    start.wait()
    mine = claims(study, "worker")
    return [name for name in names if mine.take(name, "") is not None]


def test_of_processes_that_claim_at_once_one_succeeds(tmp_path: Path) -> None:
    names = [f"run{number}" for number in range(30)]
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[list[str]] = context.SimpleQueue()
    start = context.Barrier(4)
    workers = [context.Process(target=lambda: results.put(_take_all(tmp_path, names, start))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    taken = [name for _ in workers for name in results.get()]
    assert sorted(taken) == sorted(names)


def test_a_worker_works_is_silent_and_is_lost(tmp_path: Path) -> None:
    """By a clock of its own, from the first look on: two beats of six may be missing."""
    mine, clock = claims(tmp_path, "host:1").take("run", ""), Clock(1e6)
    assert mine is not None
    watched, seen = claims(tmp_path, "", clock), []
    for seconds in (0, 33, 34, 99, 100):
        clock.seconds = 1e6 + seconds
        [worker] = watched.workers()
        seen.append((worker.state, worker.silent_seconds))
    assert seen == [("working", 0), ("working", 33), ("silent", 34), ("silent", 99), ("lost", 100)]
    mine.beat(1)
    [worker] = watched.workers()
    assert (worker.name, worker.run, worker.state, worker.silent_seconds) == ("host:1", "run", "working", 0)
    mine.release()
    assert watched.workers() == []


def test_workers_of_runs_that_are_done_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        assert claims(tmp_path, f"host:{name}").take(name, "") is not None
    watched, looked = claims(tmp_path, ""), list[str]()
    real = Claims.holder
    monkeypatch.setattr(Claims, "holder", lambda each, run: looked.append(run) or real(each, run))  # type: ignore[func-returns-value]
    assert [worker.run for worker in watched.workers({"b"})] == ["a", "c"]
    assert looked == ["a", "c"]
    assert [worker.run for worker in watched.workers({"a", "b"})] == ["c"]
    assert set(watched._claims) == {"c"}, "nothing is kept of a run that is done"


@pytest.mark.parametrize(
    ("since", "low", "high"),
    [
        ((datetime.now(UTC) - timedelta(hours=1)).isoformat(), 3600, 7200),
        ((datetime.now(UTC) + timedelta(hours=1)).isoformat(), 0, 0),  # a clock that is fast
        ("yesterday", None, None),
        ("2026-01-01", None, None),  # without a time zone
        ("", None, None),
    ],
    ids=["an hour ago", "in an hour", "no time", "no zone", "nothing"],
)
def test_for_how_long_a_worker_works_is_only_shown(
    since: str, low: float | None, high: float | None, tmp_path: Path
) -> None:
    assert claims(tmp_path, "host:1").take("run", since) is not None
    [worker] = claims(tmp_path, "").workers()
    if low is None or high is None:
        assert worker.seconds is None
    else:
        assert worker.seconds is not None
        assert low <= worker.seconds <= high


def test_words_about_a_worker() -> None:
    assert Worker("node7:1", "run", 200.0, 3.0).words("lora-s0") == "node7:1: lora-s0 for 3 min 20 s"
    assert Worker("node7:1", "run", None, 70.0, "silent").words("lora-s0") == "node7:1: lora-s0, silent for 1 min 10 s"
    assert Worker("node7:1", "run", 9.0, 200.0, "lost").words("x") == "node7:1: x for 9 s, lost, silent for 3 min 20 s"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("node7:4242", "node7:4242"),
        ("evil\x1b[2J\u202e", "evil?[2J?"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        (" \n ", "another worker"),
        ("", "another worker"),
        ("x" * 60, "x" * 60),
        ("x" * 300, "x" * 57 + "..."),
        ("x" * 20_000, "another worker"),  # such a file is not read
        (3, "3"),
    ],
    ids=lambda value: str(value)[:12].encode("ascii", "backslashreplace").decode(),
)
def test_names_of_workers_are_short_and_harmless(name: object, label: str, tmp_path: Path) -> None:
    mine = claims(tmp_path, "").take("run", "")
    assert mine is not None
    (mine.folder / "1.json").write_text(json.dumps({"worker": name, "since": ["\x1b"]}))
    [worker] = claims(tmp_path, "").workers()
    assert worker.label == worker_label(worker.name) == label


def test_whoever_was_lost_before_is_known(tmp_path: Path) -> None:
    """By the file in which an owner ends its claim; a run that was handed on has no lost worker."""
    clock = Clock()
    assert claims(tmp_path, "first").take("run", "") is not None
    second = claims(tmp_path, "second", clock)
    assert second.take("run", "") is None
    clock.seconds = 100
    mine = second.take("run", "")
    assert mine is not None
    assert second.lost_before("run", 1) is None
    assert second.lost_before("run", 2) == "first"
    mine.release()
    assert claims(tmp_path, "third").take("run", "") is not None
    assert second.lost_before("run", 3) is None
