"""The same command is given twice at nearly the same time: one computes, and the other is refused before it does."""

import random
import time
from collections import Counter

from support.warm_command import WarmCommand
from support.warm_study import WarmStudy
from tuneoff import cli


def test_one_of_two_starts_is_refused(warm_study: WarmStudy, full: bool, seed: int) -> None:
    draw, outcomes = random.Random(13 + seed), Counter[str]()
    second_command = WarmCommand(warm_study.command.arguments, warm_study.folder, warm_study.output.with_name("second"))
    trials = 100 if full else 1
    for trial in range(trials):
        first = warm_study.command.start()
        if trial % 3:
            first.wait_for(draw.randint(1, len(warm_study.marks)))
        else:  # both in their first moments
            time.sleep(draw.uniform(0.0, 0.3))
        second = second_command.start()
        codes = sorted([first.wait() or 0, second.wait() or 0])
        where = f"trial {trial}: {first.code} {first.said} {second.code} {second.said}"
        # If the first ends before the second looks, the second finds everything done.
        assert codes in ([0, 0], [0, cli.USAGE]), where
        assert first.all_ended(), where
        assert second.all_ended(), where
        if codes == [0, cli.USAGE]:
            refused = first if first.code else second
            assert "is working in this folder; wait for it, or choose another --output" in refused.said, where
            assert not any(mark.role == "server" for mark in refused.marks), f"{where}: it computed"
        assert not warm_study.faults(), f"{where}: {warm_study.faults()}"
        warm_study.remove()
        print(f"trial {trial}: {codes}", flush=True)
        outcomes["one was refused" if codes[1] else "one after the other"] += 1
    assert outcomes["one was refused"]
    print(f"{trials} trials, {dict(outcomes)}")
