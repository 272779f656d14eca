"""Short form of the bench: a simulated study on many workers, of which some are lost, has one record for each run."""

from pathlib import Path

import pytest
from scale import Turns, carry_out, prepared_study

from tuneoff.results.study_dir import StudyDir
from tuneoff.results.verification import verify


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_each_run_has_one_record(tmp_path: Path, workers: int) -> None:
    prepared = prepared_study(tmp_path, 60, methods=("zero_shot", "lora"), fractions=(1.0,))
    found = carry_out(prepared, workers)
    assert found["once"], found
    assert 50 <= found["cells"] <= 65
    assert found["attempts"] >= found["cells"]
    assert (found["attempts"] > found["cells"]) == (workers > 1)  # some workers were lost
    assert found["command_seconds_per_cell"] < 0.1
    assert found["idle_share"] < (0.05 if workers == 1 else 0.6)
    stored = StudyDir(prepared.dir.path)
    listed = {file.path for file in verify(stored.path) if file.state == "whole"}
    assert {f"runs/{run}/record.json" for run in stored.load().plan.runs or ()} <= listed


def test_threads_take_turns_in_virtual_time() -> None:
    turns, seen = Turns(), []

    def work(name: str, pause: float) -> None:
        for _ in range(3):
            turns.sleep(pause)
            seen.append((name, round(turns.now)))

    turns.start(lambda: work("slow", 1000.0))
    turns.start(lambda: work("fast", 400.0))
    turns.begin()
    turns.sleep(2500.0)
    assert seen == [("fast", 400), ("fast", 800), ("slow", 1000), ("fast", 1200), ("slow", 2000)]
    turns.drain()
    assert seen[-1] == ("slow", 3000)
