"""A tracker that fails at any moment, and no network: the study has the same results, and connects to nothing."""

import random
import sys
from pathlib import Path
from typing import Any

from support.warm_command import Role, WarmCommand
from support.warm_study import WarmStudy
from tuneoff import cli
from tuneoff.trackers import registry

ERRORS = (
    *(ConnectionError("no route to host"), TimeoutError("it took too long"), KeyError("entity")),
    *(OSError(28, "No space left on device"), RuntimeError("not logged in"), MemoryError()),
)


class Broken:
    """A tracker whose call number `at` fails, and all later ones."""

    def __init__(self, at: int, error: Exception) -> None:
        self.at, self._error, self._count = at, error, 0

    def _fail(self, *_given: Any) -> None:
        self._count += 1
        if self._count >= self.at:
            raise self._error

    start = event = finish = _fail


def test_a_tracker_that_fails_changes_nothing(warm_study: WarmStudy, full: bool, seed: int, tmp_path: Path) -> None:
    draw = random.Random(10 + seed)
    connections = tmp_path / "connections"
    command = WarmCommand([*warm_study.command.arguments, "--report-to=broken"], warm_study.folder, warm_study.output)
    events = sum(mark.what.startswith("event ") for mark in warm_study.marks)
    for trial in range(30 if full else 1):
        tracker = Broken(draw.randint(1, events), draw.choice(ERRORS))

        def prepare(role: Role, tracker: Broken = tracker) -> None:
            def watch(event: str, arguments: tuple[Any, ...]) -> None:
                if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
                    with connections.open("a") as stream:
                        stream.write(f"{event} {arguments}\n")

            sys.addaudithook(watch)
            if role == "parent":
                vars(registry)["TRACKERS"] = {"broken": lambda _folder: tracker}

        running = command.carry_out(prepare)
        where = f"trial {trial}, {tracker.at}: {running.code}, {running.said}"
        assert running.code == cli.DONE, where
        assert "Traceback" not in running.said, where
        assert "broken is switched off, the runs go on" in running.said, where
        assert not connections.exists(), f"{where}: {connections.read_text()}"
        assert not warm_study.faults(), f"{where}: {warm_study.faults()}"
        warm_study.remove()
        print(f"trial {trial}, {tracker.at}", flush=True)
