"""The system kills a run because memory ran out: it is tried once more in parts, and only then given up."""

import functools
import itertools
import json
import random
from collections import Counter

import pytest

from support.study_folders import read_predictions, read_record
from support.study_results import differences
from support.warm_command import Mark, Role, Running
from support.warm_study import WarmStudy, states_at_each_step
from tuneoff import cli
from tuneoff.study import executor

_SECONDS = 60.0


def as_the_system_would(role: Role) -> None:
    """Each look at the system's count of kills finds one more, so a kill of ours is taken for one of the system."""
    states_at_each_step(role)
    if role == "parent":
        vars(executor)["out_of_memory_kills"] = functools.partial(next, itertools.count())


def kill_a_run(running: Running, number: int, *, after: Mark | None = None) -> Mark | None:
    """Kill the run that writes mark `number` of those that runs write; `after`: of a run that was not yet there."""
    for mark in running.marks_until(_SECONDS):
        number -= mark.role == "run" and (after is None or mark.pid != after.pid)
        if number == 0:
            running.kill("run")
            return mark
    return None


def losses(record: dict[str, object]) -> list[float]:
    curve = record["curve"]
    assert isinstance(curve, dict)
    return [point["loss"] for kind in ("train", "validation") for point in curve[kind]]


@pytest.mark.slow
def test_a_run_that_is_killed_for_memory_is_tried_once_more(warm_study: WarmStudy, full: bool, seed: int) -> None:
    draw, outcomes = random.Random(9 + seed), Counter[str]()
    most = sum(mark.role == "run" for mark in warm_study.marks)
    for trial in range(30 if full else 1):
        running = warm_study.command.start(as_the_system_would)
        mark = kill_a_run(running, draw.randint(1, most))
        twice = trial % 3 == 2 and mark is not None
        again = kill_a_run(running, draw.randint(1, 5), after=mark) if twice else None
        code = running.wait()
        where = f"trial {trial}, killed at {mark}, then at {again}: {code}"
        assert running.all_ended(), where
        changed = {
            line.split("/")[1] for line in differences(dict(warm_study.results), warm_study.folder) if "runs/" in line
        }
        assert len(changed) <= 2, f"{where}: {changed}"
        for path in (warm_study.folder / "runs").iterdir():
            notes = read_record(path).notes
            if any("resumed after step" in note for note in notes):
                assert any("computed in 2 parts" in note for note in notes), f"{where}: {notes}"
        for name in changed:
            record = read_record(warm_study.folder / "runs" / name)
            outcomes[record.status] += 1
            if again is not None and record.status == "failed":
                assert code == cli.SOME_FAILED, where
                assert record.failure is not None
                assert "also with each micro-batch in 2 parts" in record.failure.message, record.failure.message
                continue
            assert record.status == "finished", f"{where}: {record.failure}"
            assert any("computed in 2 parts" in note for note in record.notes), f"{where}: {record.notes}"
            whole = json.loads(warm_study.results[f"runs/{name}/record.json"])
            assert losses(record.model_dump(mode="json")) == pytest.approx(losses(whole), rel=1e-6, abs=1e-6), where
            texts = warm_study.results[f"runs/{name}/predictions.jsonl"].splitlines()
            written = [row.text for row in read_predictions(warm_study.folder / "runs" / name)]
            assert written == [json.loads(line)["text"] for line in texts], where
        assert code in (cli.DONE, cli.SOME_FAILED), f"{where}: {running.said}"
        assert warm_study.finished(states_at_each_step).code == 0, where
        warm_study.remove()
        print(where, flush=True)
    print(dict(outcomes))
