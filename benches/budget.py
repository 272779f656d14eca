"""Does a study end in its time? 10 budgets from 2 to 60 minutes; in half of them the machine has other load.

Simulated by default: durations come from a machine with noise and drift, and the plan, its corrections and the order of
the runs are those of the program. Takes seconds. A study should end between 85 and 105 % of its budget, unless
everything that was asked for is done, or not even the smallest study fits.

    python benches/budget.py                      # all rows of the table, simulated
    python benches/budget.py --real 2m 4m         # real studies on the starter preset, one after another
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuneoff.methods import method_class
from tuneoff.results.run_record import (
    Curve,
    PhaseResources,
    Reading,
    Record,
    Resources,
    RunDetails,
    TrainPoint,
    ValidationPoint,
)
from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, RunSpec, StudySpec
from tuneoff.study import budget, planner
from tuneoff.study.allocation import size_of
from tuneoff.study.budget_keeper import HEADROOM, BudgetKeeper, time_for_runs
from tuneoff.study.correction import with_headroom
from tuneoff.study.duration import DataSizes, Speeds
from tuneoff.study.planner import ContentHashes, PlannedRun
from tuneoff.study.speed_probe import SHARE_OF_BUDGET
from tuneoff.text import parse_duration

BUDGETS = (2, 3, 4, 6, 8, 12, 15, 20, 30, 60)  # minutes
LOW, HIGH = 0.85, 1.05
METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora", "full")
DATA = {
    "starter": DataSizes(
        train_examples=300, validation_examples=60, validation_documents=20, test_examples=150, test_documents=50
    ),
    "samsum": DataSizes(
        train_examples=14_637, validation_examples=814, validation_documents=814, test_examples=819, test_documents=819
    ),
}
MACHINES = {  # seconds of a step of LoRA, of a text, and to start a run
    "fp32": (6.0, 0.7, 5.0),
    "fast bf16": (2.5, 0.4, 4.0),
    "AMX": (1.5, 0.15, 4.0),
}
REPORT_SECONDS = 5.0
_STEP = {"soft_prompt": 0.8, "lora": 1.0, "full": 1.15}
_WRITE = {"few_shot": 1.6}


@dataclass
class VirtualMachine:
    """A machine in virtual time. Other load begins and ends at random, and the probe is wrong by some per cent."""

    name: str
    loaded: bool
    seed: int

    def __post_init__(self) -> None:
        self.now = 0.0
        self._random = random.Random(self.seed)
        step, write, start = MACHINES[self.name]
        self.true = {
            name: Speed(
                start=start, step=_STEP.get(name, 0.0) * step, check=step / 24, write=_WRITE.get(name, 1.0) * write,
                warm_up=step if name in _STEP else 0.0,
            )
            for name in METHODS
        }  # fmt: skip
        self._slow, self._until = 1.0, 0.0

    def probe(self, limit: float) -> Speeds:
        """What a probe finds that takes at most `limit` seconds: each figure is wrong by about 15 %."""
        self.now += limit
        factor = self._load()
        return {
            ("starter", name): Speed(
                **{
                    key: value * factor * self._random.lognormvariate(0, 0.15)
                    for key, value in speed.model_dump().items()
                }
            )
            for name, speed in self.true.items()
        }

    def _wrong(self, value: float, spread: float) -> float:
        return value * self._random.lognormvariate(0, spread)

    def carry_out(self, run: PlannedRun, sizes: DataSizes, study: StudySpec) -> Record:
        """A run, with the durations of its phases. Load may begin or end between two phases."""
        spec, speed, began = run.spec, self.true[run.spec.method.name], self.now
        steps = _steps(spec, sizes)
        validation = sizes.examples(study, "validation")
        scored = spec.scored_documents or sizes.test_documents
        texts = round(sizes.test_examples * scored / sizes.test_documents) if spec.role == "final" else 0
        amounts = {
            "load": speed.start,
            "train": speed.warm_up + steps * speed.step if steps else 0.0,
            "evaluate": validation * speed.check,
            "generate": texts * speed.write,
        }
        phases = {}
        for name, seconds in amounts.items():
            took = self._wrong(seconds * self._load(), 0.06)
            self.now += took
            phases[name] = took
        return _record(run, steps, validation, texts, phases, began, self.now)

    def _load(self) -> float:
        """How many times slower the machine is now."""
        if self.loaded and self.now >= self._until:
            self._slow = 1.0 if self._slow > 1 else self._random.uniform(1.2, 1.6)
            self._until = self.now + self._random.uniform(60, 600)
        return self._slow


def _steps(spec: RunSpec, sizes: DataSizes) -> int:
    if not method_class(spec.method.name).trains:
        return 0
    epoch = -(-sizes.train_examples // spec.train.batch_size)
    return min(epoch, spec.train.max_steps or epoch)


def _record(
    run: PlannedRun, steps: int, validation: int, texts: int, phases: dict[str, float], began: float, ended: float
) -> Record:
    nothing = Reading(value=None, unit="B", reason="simulated")
    points = [
        TrainPoint(step=steps, epoch=1, seconds=0, loss=1, learning_rate=1e-3, grad_norm=1, tokens=1)
    ] if steps else []  # fmt: skip
    epoch = datetime(2026, 1, 1, tzinfo=UTC)
    return Record(
        run_id=run.run_id,
        name=run.name,
        status="finished",
        spec=run.spec,
        started_at=(epoch + timedelta(seconds=began)).isoformat(timespec="seconds"),
        finished_at=(epoch + timedelta(seconds=ended)).isoformat(timespec="seconds"),
        curve=Curve(
            train=tuple(points),
            validation=(ValidationPoint(step=steps, epoch=1, seconds=1, loss=1.0),),
            best_step=steps,
            best_validation_loss=1.0,
        ),
        details=RunDetails(validation_examples=validation, test_examples=texts or None),
        resources=Resources(
            phases={
                name: PhaseResources(
                    wall_seconds=seconds,
                    cpu_seconds=0,
                    peak_memory_bytes=1,
                    accelerator_peak_bytes=nothing,
                    energy=nothing,
                )
                for name, seconds in phases.items()
            },
            peak_memory_bytes=1,
            threads=1,
        ),
    )


@dataclass(frozen=True)
class Outcome:
    """How one study ended."""

    minutes: float
    machine: str
    data: str
    loaded: bool
    part: float
    """Of the budget that was used."""
    runs: int
    study: StudySpec
    corrections: tuple[str, ...]
    excused: str
    """Why less or more may be used; empty if there is no reason."""

    @property
    def held(self) -> bool:
        """Whether the study ended in time, and used its time."""
        return (self.part <= HIGH and self.part >= LOW) or bool(self.excused)


def study_in(minutes: float, machine: VirtualMachine, data: str, study: StudySpec) -> Outcome:
    """One simulated study with a budget."""
    sizes, seconds = DATA[data], 60.0 * minutes
    speeds = machine.probe(min(SHARE_OF_BUDGET * seconds, 40.0))
    fitted = budget.fit(study, sizes, speeds, time_for_runs(seconds) - machine.now)
    file = budget.budget_file(fitted, study, seconds, "examples", speeds)
    keeper = BudgetKeeper(file, study, sizes, began=0.0, clock=lambda: machine.now)
    hashes = ContentHashes("d", {"starter": "m"}, train_examples=sizes.train_examples)
    completed: dict[str, Record] = {}
    current = fitted.study
    if fitted.fits and not current.trials:  # as `prepare` does
        current = with_headroom(current, study, sizes, speeds, HEADROOM * seconds)
    while batch := keeper.next_batch(planner.plan(current, hashes, completed).missing(completed)):
        for run in batch:
            completed[run.run_id] = machine.carry_out(run, sizes, current)
        current, _ = keeper.correct(current, planner.plan(current, hashes, completed), completed, ())
    size, whole = size_of(current, sizes), size_of(study, sizes)
    excused = ""
    if (size.documents, size.seeds) == (whole.documents, whole.seeds):
        excused = "all documents and seeds that were asked for"
    elif fitted.seconds < LOW * time_for_runs(seconds):
        excused = "no trial and no three seeds fit into what is left"
    elif not fitted.fits:
        excused = "not even the smallest study fits, which is said before it starts"
    part = (machine.now + REPORT_SECONDS) / seconds
    return Outcome(
        minutes, machine.name, data, machine.loaded, part, len(completed), current, keeper.file.corrections, excused
    )


def simulate(seed: int, budgets: Sequence[float] = BUDGETS) -> list[Outcome]:
    """Each budget once on every kind of machine and data; other load in every second one."""
    found = []
    for machine in MACHINES:
        for data in DATA:
            for number, minutes in enumerate(budgets):
                study = StudySpec(methods=METHODS, seeds=3, trials=2, data=DataSpec(source="starter"))
                virtual = VirtualMachine(machine, number % 2 == 1, seed=1000 * seed + number)
                found.append(study_in(minutes, virtual, data, study))
    return found


def _print(found: Sequence[Outcome]) -> None:
    print(f"{'minutes':>7} {'machine':10} {'data':8} {'load':5} {'used':>6}  runs  seeds documents steps trials")
    for one in found:
        size = size_of(one.study, DATA[one.data])
        note = one.excused if one.held else "NOT HELD"
        print(
            f"{one.minutes:7g} {one.machine:10} {one.data:8} {'yes' if one.loaded else 'no':5} {100 * one.part:5.0f} %"
            f" {one.runs:5} {size.seeds:6} {size.documents:9} {size.steps:5} {size.trials:6}  {note}"
        )
        for line in one.corrections:
            print(f"{'':40}{line}")
    held = sum(LOW <= one.part <= HIGH for one in found)
    excused = sum(one.held for one in found) - held
    print(f"{held} of {len(found)} studies ended between 85 and 105 % of their time; {excused} others have a reason")


def _real(budgets: Sequence[str]) -> None:
    """Real studies on the starter preset, each in a folder of its own that is deleted."""
    for text in budgets:
        seconds = parse_duration(text)
        if seconds is None:
            raise SystemExit(f"{text}: a time such as 4m was expected")
        folder = Path(tempfile.mkdtemp(prefix="tuneoff-budget-"))
        began = time.perf_counter()
        command = [sys.executable, "-m", "tuneoff", "compare", "--preset", "starter", f"--budget={text}"]
        done = subprocess.run([*command, f"--output={folder / 'study'}"], check=False)
        took = time.perf_counter() - began
        shutil.rmtree(folder)
        print(f"{text}: {took:.0f} s, {100 * took / seconds:.0f} % of the budget, exit code {done.returncode}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", nargs="+", metavar="TIME", help="carry out real studies in these times instead")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated noise")
    asked = parser.parse_args(arguments)
    if asked.real:
        _real(asked.real)
    else:
        _print(simulate(asked.seed))


if __name__ == "__main__":
    main()
