"""How far one study can be spread: 10,000 runs on up to 1,000 workers, in virtual time.

    python benches/scale.py [--cells 1000 10000] [--workers 1 10 100 200 1000] [--picture FOLDER]

Planner, runner, executor, claims, manifests, records and verdict are those of the program. Only what a run does is
replaced: it takes the time that a recorded run of its method took (`results/`), in virtual time, and leaves a record
and texts like it. Of all runs, 1 % fail and 2 % lose their worker, as by kill -9: another worker takes the run over
after a lease, and two minutes later a new worker takes the place of the lost one.

What the command and the workers compute is measured in seconds of a processor, and each is late by them in virtual
time. Results that many workers compute alike (the plan, the content of a record) are computed once, and every worker
is charged for them. What the fake runs themselves compute is not counted, because it replaces a training.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import heapq
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import report

METHODS = (
    "zero_shot", "few_shot", "soft_prompt", "lora", "dora", "rslora", "ia3", "ln_tuning", "last_layers",
    "prefix_tuning", "full",
)  # fmt: skip
FRACTIONS = (0.05, 0.1, 0.3, 0.6, 1.0)
CELLS_OF_A_MODEL = 1000
DOCUMENTS = 50
FAILED, LOST = 0.01, 0.02
RESTART_SECONDS = 120.0
# Five times as long as usual, because each look at the folder, and each sign of life, takes real time here.
POLL_SECONDS, LEASE_SECONDS = 10.0, 900.0
METRICS = (
    "rouge1", "rouge2", "rougeL", "rougeLsum", "rouge1_mean", "rouge2_mean", "rougeL_mean", "rougeLsum_mean", "length",
    "novelty", "copy_rate", "repetition", "unsupported_numbers", "unsupported_names",
)  # fmt: skip
RECORDED = Path(__file__).parents[1] / "results"


class Turns:
    """Virtual time for threads that take turns: the one whose time comes first works until it waits again.

    What a thread computes makes it late: its processor time is added to its wait.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, threading.Semaphore]] = []
        self._numbers = itertools.count()
        self._own = threading.local()
        self.begin()

    def begin(self) -> None:
        """The calling thread begins to work now."""
        self._own.turn, self._own.since, self._own.used = threading.Semaphore(0), time.thread_time(), 0.0

    @property
    def used(self) -> float:
        """Processor seconds of the calling thread so far."""
        return float(self._own.used) + time.thread_time() - float(self._own.since)

    def clock(self) -> float:
        """Virtual seconds, with what the calling thread has computed since its last wait."""
        return self.now + max(0.0, time.thread_time() - self._own.since + getattr(self._own, "owed", 0.0))

    def charge(self, seconds: float) -> None:
        """Count processor seconds that were spent once for all; negative: that do not count."""
        self._own.used += seconds
        self._own.owed = getattr(self._own, "owed", 0.0) + seconds

    def sleep(self, seconds: float) -> None:
        """Wait, while others work."""
        worked = time.thread_time() - self._own.since
        self._own.used += worked
        late = max(0.0, worked + getattr(self._own, "owed", 0.0))
        self._own.owed = 0.0
        self._wait_until(self.now + seconds + late)
        self._own.since = time.thread_time()

    def _wait_until(self, moment: float) -> None:
        heapq.heappush(self._queue, (moment, next(self._numbers), self._own.turn))
        self._hand_over()
        self._own.turn.acquire()

    def _hand_over(self) -> None:
        if self._queue:
            self.now, _, turn = heapq.heappop(self._queue)
            turn.release()

    def start(self, function: Callable[[], None], after: float = 0.0) -> None:
        """A new thread, which works for the first time `after` seconds from now."""
        turn = threading.Semaphore(0)
        heapq.heappush(self._queue, (self.now + after, next(self._numbers), turn))

        def work() -> None:
            turn.acquire()
            self.begin()
            function()
            self._hand_over()

        threading.Thread(target=work, daemon=True).start()

    def vanish(self) -> None:
        """The calling thread never works again, and nothing that it holds is released."""
        self._hand_over()
        threading.Semaphore(0).acquire()

    def drain(self) -> None:
        """Let all others work to their end."""
        while self._queue:
            self.sleep(1.0)


@dataclass
class World:
    """What all workers of one simulated study share."""

    turns: Turns
    recorded: Mapping[str, Sequence[Any]]
    """Method -> recorded runs."""
    texts: Mapping[str, Sequence[str]]
    """Method -> lines of predictions, several variants."""
    alive: dict[int, Any] = field(default_factory=dict)
    """Claims of living workers, by their threads."""
    attempts: int = 0
    run_seconds: float = 0.0
    """Virtual seconds of all attempts."""
    lost_seconds: float = 0.0
    """Of those that lost their worker."""
    last_end: float = 0.0
    worker_seconds: list[float] = field(default_factory=list)
    """Processor seconds of workers that have ended."""
    _alike: dict[int, str] = field(default_factory=dict)

    def template(self, job: Any) -> Any:
        """A recorded run of the method, or of the one that costs most alike."""
        method, spec = job.spec.method.name, job.spec
        own = self.recorded.get(method) or self.recorded["full" if method == "last_layers" else "lora"]
        own = [record for record in own if record.spec.role == spec.role] or own
        own = [record for record in own if record.spec.fraction == spec.fraction] or own
        return random.Random(job.run_id).choice(own)

    def alike(self, template: Any) -> str:
        """The beginning of `record.json`: everything that does not depend on the run."""
        if id(template) not in self._alike:
            plain = template.model_dump(
                mode="json", exclude={"run_id", "name", "spec", "status", "failure", "artefact"}
            )
            plain["resources"]["processes"] = 1
            self._alike[id(template)] = json.dumps(plain)[:-1]
        return self._alike[id(template)]

    @contextlib.contextmanager
    def beating(self, claim: Any, _seconds: float) -> Iterator[None]:
        """In place of the thread that shows that a worker lives."""
        claim.beat(1)
        self.alive[threading.get_ident()] = claim
        yield
        self.alive.pop(threading.get_ident(), None)

    def beat(self, seconds: float, until: Callable[[], bool]) -> None:
        """All living workers show that they live."""
        for count in itertools.count(2):
            self.turns.sleep(seconds)
            if until():
                return
            before = time.thread_time()
            for claim in list(self.alive.values()):
                with contextlib.suppress(OSError):
                    claim.beat(count)
            self.turns.charge(before - time.thread_time())


class RecordedRuns:
    """An executor whose runs take the time of recorded ones, and leave records like them."""

    def __init__(self, world: World, replace: Callable[[], None] | None) -> None:
        """`replace` starts another worker; None: this one is never lost."""
        self._world, self._replace = world, replace

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, jobs: Sequence[Any], observer: Any) -> Iterator[Any]:
        """See `Executor.run`."""
        from tuneoff.results.run_dir import StoredRun

        world = self._world
        for job in jobs:
            observer.started(job)
            template = world.template(job)
            seconds = template.resources.total_seconds
            chance = random.Random(f"{job.run_id} {job.dir.name}").random()
            world.attempts += 1
            if self._replace is not None and chance > 1 - LOST:
                world.turns.sleep(seconds / 2)
                world.run_seconds += seconds / 2
                world.lost_seconds += seconds / 2
                self._vanish()
            world.turns.sleep(seconds)
            world.run_seconds += seconds
            world.last_end = max(world.last_end, world.turns.now)
            before = time.thread_time()
            self._leave(job, template, failed=chance < FAILED)
            world.turns.charge(before - time.thread_time())
            run = StoredRun(job.dir, template)  # what counts is read from the folder again
            observer.ended(job, run)
            yield run

    def _vanish(self) -> None:
        assert self._replace is not None
        self._world.alive.pop(threading.get_ident(), None)
        self._world.worker_seconds.append(self._world.turns.used)
        self._replace()
        self._world.turns.vanish()

    def _leave(self, job: Any, template: Any, *, failed: bool) -> None:
        """Write what a run leaves, as `RunDir.write_record` does; what is alike in all records is dumped once."""
        from tuneoff.results.json_files import write_text_atomic
        from tuneoff.results.manifest import entry_of

        own = {
            "run_id": job.run_id,
            "name": job.name,
            "spec": job.spec.without_paths().model_dump(mode="json"),
            "status": "failed" if failed else "finished",
            "failure": {"type": "Simulated", "message": "made to fail"} if failed else None,
        }
        contents = {"record.json": f"{self._world.alike(template)}, {json.dumps(own)[1:]}"}
        if job.spec.role == "final" and not failed:
            contents["predictions.jsonl"] = self._texts(job)
        job.dir.path.mkdir(parents=True, exist_ok=True)
        job.dir.write_manifest({name: entry_of(text.encode()) for name, text in contents.items()})
        for name, text in reversed(contents.items()):
            write_text_atomic(job.dir.path / name, text)

    def _texts(self, job: Any) -> str:
        variants = self._world.texts[job.spec.method.name]
        return variants[int(job.run_id, 16) % len(variants)]


def prediction_texts(variants: int = 4) -> dict[str, list[str]]:
    """What final runs write, as the lines of `predictions.jsonl`."""
    from tuneoff.results.json_files import jsonl_text
    from tuneoff.results.run_record import Prediction

    rng = random.Random(0)
    hard = [rng.gauss(0, 8) for _ in range(DOCUMENTS)]
    found: dict[str, list[str]] = {}
    for number, method in enumerate(METHODS):
        for variant in range(variants):
            rows = []
            for at in range(DOCUMENTS):
                score = max(0.0, 25 + number + hard[at] + rng.gauss(0, 4))
                scores = dict.fromkeys(METRICS, score) | {"empty": 0.0, "unstopped": 0.0}
                text = f"{method} {variant} {at} wrote a text of some twenty words, as long as a summary of an article"
                rows.append(Prediction(id=f"d{at}", text=text, scores=scores, tokens=30, stopped=True))
            found.setdefault(method, []).append(jsonl_text(rows))
    return found


def recorded_runs() -> dict[str, list[Any]]:
    """The finished runs of `results/`, by method."""
    from tuneoff.results.study_dir import StudyDir

    found: dict[str, list[Any]] = {}
    for folder in sorted(RECORDED.iterdir()):
        for run in StudyDir(folder).read_runs(skip_damaged=True):
            if run.record.status == "finished" and run.record.resources is not None:
                found.setdefault(run.record.spec.method.name, []).append(run.record)
    return found


def prepared_study(
    folder: Path, cells: int, methods: Sequence[str] = METHODS, fractions: Sequence[float] = FRACTIONS
) -> Any:
    """A study of about `cells` runs, ready to be carried out. Its models are names."""
    from tuneoff import data, metrics
    from tuneoff.results.study_dir import StudyDir
    from tuneoff.spec import DataSpec, ModelSpec, StudySpec
    from tuneoff.study import planner
    from tuneoff.study.duration import DataSizes
    from tuneoff.study.inputs import StudyInputs
    from tuneoff.study.launcher import WHOLE_MACHINE
    from tuneoff.study.looks import StudyPlanner
    from tuneoff.study.planner import ContentHashes
    from tuneoff.study.runner import PreparedStudy

    sizes = {"train": 400, "validation": 40, "test": DOCUMENTS}
    files = {}
    for split, count in sizes.items():
        path = folder / f"{split}.jsonl"
        rows = ({"id": f"d{at}", "document": f"{split} text {at}", "summary": f"text {at}"} for at in range(count))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[f"{split}_file"] = str(path)
    models = tuple(ModelSpec(name=f"model{at}", precision="fp32") for at in range(max(1, cells // CELLS_OF_A_MODEL)))
    spec = StudySpec(
        name="scale",
        models=models,
        methods=tuple(methods),
        fractions=tuple(fractions),
        trials=3,
        seeds=1,
        data=DataSpec.model_validate(files),
    )
    each = planner.count(spec.model_copy(update={"seeds": 2})) - planner.count(spec)
    seeds = max(1, 1 + (cells - planner.count(spec)) // each)
    spec = spec.model_copy(update={"seeds": seeds})
    dataset = data.load_dataset(spec.data)
    hashes = ContentHashes(
        dataset.content_hash,
        {model.name: f"{at:016x}" for at, model in enumerate(models)},
        train_examples=sizes["train"],
    )
    inputs = StudyInputs(
        dataset,
        hashes,
        DataSizes(
            train_examples=sizes["train"],
            validation_examples=sizes["validation"],
            validation_documents=sizes["validation"],
            test_examples=DOCUMENTS,
            test_documents=DOCUMENTS,
        ),
        {},
        metrics.rouge_coverage([example.references for example in dataset.test], metrics.RougeDialect.of("english")),
    )
    study = StudyDir(folder / "study")
    planning = StudyPlanner(spec, study, hashes, inputs.dataset)
    return PreparedStudy(spec, study, inputs, planning, planning.plan({}), (), WHOLE_MACHINE)


class Alike:
    """Does once what all workers do alike, and holds it once; each worker is charged for it."""

    def __init__(self, turns: Turns) -> None:
        from tuneoff.results.run_dir import RunDir
        from tuneoff.results.study_dir import StudyDir
        from tuneoff.study import planner, shared_folder

        self._turns = turns
        self._accepted, self._run_dir, self._plan = shared_folder.accepted, StudyDir.run_dir, planner.plan
        self._read, self._has_record = RunDir.read_record, RunDir.has_record
        self._make_jobs = shared_folder.jobs_of
        self._jobs: dict[str, Any] = {}
        self._made, self._making = 0, 0.0
        self._look_seconds = 0.0
        self._runs: dict[Path, tuple[Any, float]] = {}
        self._records: dict[Any, tuple[Any, float]] = {}
        self._dirs: dict[str, RunDir] = {}
        self._known: dict[Any, Any] = {}
        self._trials: dict[str, Any] = {}
        self._plan_of: tuple[int, Any] | None = None
        self._new, self._new_seconds, self._known_seconds = 0, 0.0, 0.0
        self.claims: dict[tuple[str, int], dict[str, object]] = {}

    def accepted(self, run: Any) -> Any:
        """In place of `shared_folder.accepted`: what a run that has ended has left does not change."""
        found = self._runs.get(run.path)
        if found is not None:
            self._turns.charge(found[1])
            return found[0]
        before = time.thread_time()
        stored = self._accepted(run)
        if stored is not None and stored.record.ended:
            self._runs[run.path] = stored, time.thread_time() - before
        return stored

    def read_record(self, run: Any) -> Any:
        """In place of `RunDir.read_record`."""
        key = run.path, run.record_version()
        if key in self._records:
            self._turns.charge(self._records[key][1])
        else:
            before = time.thread_time()
            self._records[key] = self._read(run), time.thread_time() - before
        return self._records[key][0]

    def has_record(self, run: Any) -> bool:
        """In place of `RunDir.has_record`: of a run that is known to have ended, this is not asked again."""
        if run.path in self._runs:
            self._turns.charge(self._look_seconds)
            return True
        before = time.thread_time()
        found = self._has_record(run)
        self._look_seconds = time.thread_time() - before
        return found

    def jobs_of(self, runs: Sequence[Any], directory: Any, **settings: Any) -> list[Any]:
        """In place of `jobs_of`, for workers: jobs are made when the first of them needs them."""
        new = [run for run in runs if run.run_id not in self._jobs]
        before = time.thread_time()
        self._jobs |= {job.run_id: job for job in self._make_jobs(new, directory, **settings)}
        seconds = time.thread_time() - before
        self._made, self._making = self._made + len(new), self._making + seconds
        self._turns.charge(len(runs) * self._making / max(1, self._made) - seconds)
        return [self._jobs[run.run_id] for run in runs]

    def run_dir(self, study: Any, name: str) -> Any:
        """In place of `StudyDir.run_dir`."""
        if name not in self._dirs:
            self._dirs[name] = self._run_dir(study, name)
        return self._dirs[name]

    def plan(self, study: Any, hashes: Any, completed: Mapping[str, Any], seeds: Any = None, known: Any = None) -> Any:
        """In place of `planner.plan`. What is planned here depends on the trials that have ended, and on nothing else.

        It is planned with those that any worker has seen: one that has nothing to do sees them at its next look.
        `known` is the worker's own: here it holds only how many runs the worker has planned so far. Each run that is
        new to it costs what it cost when it was planned for the first time.
        """
        before, runs = time.thread_time(), len(self._known)
        self._trials.update((run_id, record) for run_id, record in completed.items() if record.spec.role == "trial")
        if self._plan_of is None or self._plan_of[0] != len(self._trials):
            plan = self._plan(study, hashes, self._trials, seeds, self._known)
            self._plan_of = len(self._trials), plan
            if (new := len(self._known) - runs) > 0:
                self._new += new
                self._new_seconds += time.thread_time() - before
            else:
                self._known_seconds = (time.thread_time() - before) / len(plan.runs)
        plan = self._plan_of[1]
        own = {} if known is None else known
        new, own["planned"] = len(plan.runs) - own.get("planned", 0), len(plan.runs)
        seconds = len(plan.runs) * self._known_seconds + new * self._new_seconds / max(1, self._new)
        self._turns.charge(seconds - (time.thread_time() - before))
        return plan


def carry_out(prepared: Any, workers: int) -> dict[str, Any]:
    """A study on `workers` workers, of which the command itself is one; the figures."""
    from tuneoff.results.run_claims import BEATS_IN_A_LEASE
    from tuneoff.results.run_dir import RunDir
    from tuneoff.results.study_dir import StudyDir
    from tuneoff.study import jobs, planner, runner, shared_folder
    from tuneoff.study.executor import SilentObserver
    from tuneoff.study.shared_folder import SharedFolderExecutor, take_runs

    turns = Turns()
    world = World(turns, recorded_runs(), prediction_texts())
    alike, ended = Alike(turns), threading.Event()
    numbers = itertools.count(1)

    def executor(*, may_be_lost: bool) -> SharedFolderExecutor:
        replace = (lambda: turns.start(work, RESTART_SECONDS)) if may_be_lost else None
        return SharedFolderExecutor(
            inner=lambda _layout: RecordedRuns(world, replace),
            worker=f"worker {next(numbers)}",
            lease_seconds=LEASE_SECONDS,
            poll_seconds=POLL_SECONDS,
            clock=lambda: turns.now,
            sleep=turns.sleep,
        )

    def work() -> None:
        directory = prepared.dir
        while (found := directory.read_work()) is None and not ended.is_set():
            turns.sleep(1.0)
        if found is not None:
            with executor(may_be_lost=True) as own:
                take_runs(directory, found, prepared.inputs, own, SilentObserver())
        world.worker_seconds.append(turns.used)

    with contextlib.ExitStack() as changed:
        changed.enter_context(mock.patch.object(runner, "check_before_runs"))  # the models are names
        # What a disk takes for it is not virtual time. A mock would remember all calls.
        changed.enter_context(mock.patch.object(os, "fsync", _do_nothing))
        changed.enter_context(mock.patch.object(shared_folder, "_beating", world.beating))
        changed.enter_context(mock.patch.object(jobs, "monotonic", turns.clock))
        if workers > 1:
            changed.enter_context(mock.patch.object(shared_folder, "accepted", alike.accepted))
            changed.enter_context(mock.patch.object(RunDir, "has_record", lambda run: alike.has_record(run)))
            changed.enter_context(mock.patch.object(RunDir, "read_record", lambda run: alike.read_record(run)))
            changed.enter_context(
                mock.patch.object(StudyDir, "run_dir", lambda study, name: alike.run_dir(study, name))
            )
            changed.enter_context(mock.patch.object(planner, "plan", alike.plan))
            claims = functools.partial(shared_folder.Claims, _claims=alike.claims)
            changed.enter_context(mock.patch.object(shared_folder, "Claims", claims))
        for _ in range(workers - 1):
            turns.start(work)
        turns.start(lambda: world.beat(LEASE_SECONDS / BEATS_IN_A_LEASE, ended.is_set))
        turns.begin()
        with executor(may_be_lost=False) as own:
            stored = runner.carry_out_study(prepared, own, SilentObserver(), shared=True)
        command = turns.used
        ended.set()
        turns.drain()
    finished = [run for run in stored.runs if run.record.status in ("finished", "failed")]
    ids = [json.loads(path.read_bytes())["run_id"] for path in prepared.dir.path.glob("runs/*/record.json")]
    once = len(ids) == len(set(ids)) == len(finished) == len(stored.plan.runs or ())
    useful = world.run_seconds - world.lost_seconds
    return {
        "cells": len(finished),
        "workers": workers,
        "attempts": world.attempts,
        "once": once,
        "hours": world.last_end / 3600,
        "mean_seconds": useful / max(1, len(finished)),
        "command_seconds_per_cell": command / max(1, len(finished)),
        "worker_seconds_per_run": sum(world.worker_seconds, command) / world.attempts,
        "computing_share": sum(world.worker_seconds, command) / (workers * world.last_end),
        "lost_share": world.lost_seconds / (workers * world.last_end),
        "idle_share": 1 - world.run_seconds / (workers * world.last_end),
    }


def _do_nothing(_handle: int) -> None:
    pass


def used() -> dict[str, float]:
    """Processor seconds and peak memory, in MB, of this process."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": own.ru_utime + own.ru_stime, "peak": own.ru_maxrss * 1024 / 1e6}


def fastest(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of `work`, the least of a few times: other programs share the caches of the processor."""
    seconds = []
    for _ in range(times):
        before = time.process_time()
        work()
        seconds.append(time.process_time() - before)
    return min(seconds)


def plan_seconds(cells: int) -> float:
    """Processor seconds of one plan of a study of which half is done."""
    from tuneoff.study import planner

    with tempfile.TemporaryDirectory() as folder:
        prepared = prepared_study(Path(folder), cells)
        world = World(Turns(), recorded_runs(), {})
        completed: dict[str, Any] = {}
        for _ in range(2):
            for run in planner.plan(prepared.spec, prepared.inputs.hashes, completed).runs:
                template = world.template(run)
                completed.setdefault(run.run_id, template.model_copy(update={"spec": run.spec, "run_id": run.run_id}))
        plan = planner.plan(prepared.spec, prepared.inputs.hashes, completed)
        return fastest(lambda: planner.plan(prepared.spec, prepared.inputs.hashes, completed)) / len(plan.runs)


def part_study(folder: Path, cells: int, workers: int) -> dict[str, Any]:
    """Carry out a study in `folder`."""
    return carry_out(prepared_study(folder, cells), workers)


def part_judge(folder: Path, _cells: int, _workers: int) -> dict[str, Any]:
    """Read a study and judge it."""
    from tuneoff.results.study_dir import StudyDir
    from tuneoff.verdict.summarize import summarize

    seconds = fastest(lambda: summarize(StudyDir(folder / "study").load()))
    study = StudyDir(folder / "study").load()
    return {"cells": len(study.runs), "judging_seconds": seconds, "rows": len(summarize(study).rows)}


def part_plan(_folder: Path, cells: int, _workers: int) -> dict[str, Any]:
    """Plan."""
    return {"cells": cells, "plan_seconds_per_cell": plan_seconds(cells)}


PARTS = {"study": part_study, "judge": part_judge, "plan": part_plan}


def alone(part: str, folder: Path, cells: int, workers: int = 1) -> dict[str, Any]:
    """The figures of a part that works in a process of its own."""
    command = [sys.executable, __file__, "--part", part, str(folder), str(cells), str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{part}, {cells} cells, {workers} workers: {found}", file=sys.stderr, flush=True)
    return found


def chart(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Where the time of the workers goes, by their number."""
    import altair as alt

    from tuneoff.report.chart_style import styled
    from tuneoff.report.theme import HUES, NEUTRAL

    parts = {"waiting for others": "waiting", "work of lost workers": "lost_share", "computing": "computing_share"}
    values = []
    for row in rows:
        waiting = max(0.0, row["idle_share"] - row["computing_share"])
        for label, key in parts.items():
            share = waiting if key == "waiting" else row[key]
            values.append({"workers": f"{row['workers']:,}", "part": label, "share": 100 * share})
    colours = alt.Scale(domain=list(parts), range=[HUES[0][0], NEUTRAL[0], HUES[1][0]])
    bars = (
        alt.Chart({"values": values})  # type: ignore[arg-type]
        .mark_bar()
        .encode(
            x=alt.X("workers:N", sort=None, title="workers"),
            y=alt.Y("share:Q", title="% of the time of all workers"),
            color=alt.Color("part:N", scale=colours, legend=alt.Legend(title=None, orient="top")),
        )
        .properties(width=420, height=220)
    )
    return styled([bars], title=f"Time that trains nothing, {rows[0]['cells']:,} runs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs=2, default=[1000, 10_000], metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 200, 1000], metavar="N")
    parser.add_argument("--folder", type=Path, help="for the studies, on a disk in memory if possible")
    parser.add_argument("--picture", type=Path, metavar="FOLDER", help="draws scale.svg and scale.png there")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.part:
        part, folder, cells, workers = chosen.part
        found = PARTS[part](Path(folder), int(cells), int(workers))
        print(json.dumps(found | used()))
        return
    few, many = chosen.cells
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=chosen.folder or (memory if memory.is_dir() else None)))
    rows, figures = [], []
    try:
        small = alone("study", _new(root, "small"), few)
        small_judged = alone("judge", root / "small", few)
        for workers in chosen.workers:
            folder = _new(root, str(workers))
            found = alone("study", folder, many, workers)
            figures.append(found)
            name = f"{found['cells']:,} cells, {workers} workers"
            rows.append(report.at_least(f"{name}: each run once (1: yes)", 1, float(found["once"])))
            overhead = 100 * found["idle_share"]
            rows.append(report.at_most(f"{name}: time that trains nothing, %", 5, overhead))
            rows.append(
                report.at_most(f"{name}: command, processor ms a cell", 50, 1000 * found["command_seconds_per_cell"])
            )
            if workers == 1:
                rows.append(
                    report.at_most(f"{name}: memory above {few:,} cells, MB", 200, found["peak"] - small["peak"])
                )
                judged = alone("judge", folder, many)
                rows.append(report.at_most(f"{name}: read and judged, processor s", 60, judged["judging_seconds"]))
                each = [one["judging_seconds"] / one["cells"] for one in (small_judged, judged)]
                rows.append(report.at_most(f"judging a cell, {many:,} against {few:,}", 1.3, each[1] / each[0]))
            shutil.rmtree(folder)
        each = [alone("plan", root, cells)["plan_seconds_per_cell"] for cells in (few, many)]
        rows.append(report.at_most(f"planning a cell, {many:,} against {few:,}", 1.3, each[1] / each[0]))
        rows.append(report.at_most(f"one plan of {many:,} cells, processor s", 10, each[1] * many))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if chosen.picture:
        from tuneoff.report.pictures import draw_pictures

        print(
            draw_pictures(
                {"scale": chart(sorted(figures, key=lambda row: row["workers"])).to_dict()}, chosen.picture
            ).problem
            or "",
            file=sys.stderr,
        )
    print(json.dumps(figures))
    report.show(rows)


def _new(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


if __name__ == "__main__":
    main()
