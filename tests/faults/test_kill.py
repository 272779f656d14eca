"""kill -9 of any process of a study that trains, at any moment; then the same command is given again."""

import random
import time
from collections import Counter

from support.warm_command import Role
from support.warm_study import WarmStudy, states_at_each_step

WHO = ("group", "run", "parent", "server")
# Whose marks a moment is chosen by, for each target.
_WITH = {"group": ("parent", "server", "run"), "parent": ("parent", "server", "run"), "server": ("server", "run")}
_MOST_LATE_SECONDS = 0.03


def kill_at_random(study: WarmStudy, who: str, draw: random.Random) -> str:
    """Start the study and kill `who` at a random mark, or a little later; the mark."""
    roles: tuple[Role, ...] = _WITH.get(who, ("run",))  # type: ignore[assignment]
    number = draw.randint(1, sum(mark.role in roles for mark in study.marks))
    running = study.command.start(states_at_each_step)
    mark = running.wait_for(number, roles)
    time.sleep(draw.choice((0.0, draw.uniform(0.0, _MOST_LATE_SECONDS))))
    running.kill(who)  # type: ignore[arg-type]
    code = running.wait()
    assert code is not None, f"{who} at {mark}: the study did not go on and did not end"
    assert "Traceback" not in running.said, running.said
    assert running.all_ended(), f"{who} at {mark}: a process is still there"
    return "the end" if mark is None else mark.what


def test_a_killed_study_ends_as_if_nothing_had_happened(warm_study: WarmStudy, full: bool, seed: int) -> None:
    draw = random.Random(20 + seed)
    moments: Counter[str] = Counter()
    trials = 300 if full else 1
    for trial in range(trials):
        who = WHO[trial % len(WHO)]
        for _ in range(draw.choice((1, 1, 2))):
            what = kill_at_random(warm_study, who, draw)
            moments[what.split(" ")[0]] += 1
        last = warm_study.finished(states_at_each_step)
        assert last.code == 0, f"trial {trial}, {who} at {what}: {last.said}"
        assert "damaged" not in last.said, f"trial {trial}, {who} at {what}: {last.said}"
        assert not warm_study.faults(), f"trial {trial}, {who} at {what}: {warm_study.faults()}"
        warm_study.remove()
        print(f"trial {trial}: {who} at {what}", flush=True)
    print(f"{trials} trials, killed at {dict(moments)}")
