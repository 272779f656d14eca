"""Claims of runs: one process at a time, taken over when it shows no sign of life, whatever the clocks say."""

import multiprocessing
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.run_claims import Claims


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
