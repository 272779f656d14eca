"""A tracker that fails at any moment, and no network: the study has the same results, and connects to nothing."""

import random
import sys
from pathlib import Path
from typing import Any

from fake_package import write_package
from support.warm_command import Role, WarmCommand
from support.warm_study import WarmStudy
from tuneoff import cli
from tuneoff.trackers import process

# The call number `at`, and all later ones, do this.
FAULTS = (
    *("raise ConnectionError('no route to host')", "raise OSError(28, 'No space left on device')"),
    *("raise MemoryError", "raise SystemExit(1)", "os._exit(3)", "os.kill(os.getpid(), 9)", "time.sleep(600)"),
)
SOURCE = """
import os, time

class Broken:
    def __init__(self, folder):
        self.count = 0

    def call(self, *given):
        self.count += 1
        if self.count >= {at}:
            {fault}

    start = event = finish = call
"""


def test_a_tracker_that_fails_changes_nothing(warm_study: WarmStudy, full: bool, seed: int, tmp_path: Path) -> None:
    draw = random.Random(10 + seed)
    connections = tmp_path / "connections"
    command = WarmCommand([*warm_study.command.arguments, "--report-to=broken"], warm_study.folder, warm_study.output)
    # A quarter is left out: events between two runs, which no tracker sees, are marks too.
    events = 3 * sum(mark.what.startswith("event ") for mark in warm_study.marks) // 4
    for trial in range(30 if full else 1):
        at, fault = draw.randint(1, events), draw.choice(FAULTS)
        site = tmp_path / f"site{trial}"
        source = SOURCE.format(at=at, fault=fault)
        write_package(site, "broken-tracker", source, "[tuneoff.trackers]\nbroken = broken_tracker:Broken\n")

        def prepare(role: Role, site: Path = site) -> None:
            def watch(event: str, arguments: tuple[Any, ...]) -> None:
                if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
                    with connections.open("a") as stream:
                        stream.write(f"{event} {arguments}\n")

            sys.addaudithook(watch)
            if role == "parent":
                sys.path.insert(0, str(site))
                vars(process).update(FINISH_SECONDS=0.5, CLOSING_SECONDS=1.0)  # for one that sleeps

        running = command.carry_out(prepare)
        where = f"trial {trial}, {at} {fault}: {running.code}, {running.said}"
        assert running.code == cli.DONE, where
        assert "Traceback" not in running.said, where
        assert "broken is switched off, the runs go on" in running.said, where
        assert not connections.exists(), f"{where}: {connections.read_text()}"
        assert not warm_study.faults(), f"{where}: {warm_study.faults()}"
        warm_study.remove()
        print(f"trial {trial}, {at} {fault}", flush=True)
