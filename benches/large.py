"""Large studies, made up with tuneoff's own writers: time, peak memory and size of the page.

    python benches/large.py [--sizes 50x200 500x200 500x1000] [--steps 200] [--events 1000000] [--states 10000 600000]

`RxD` is R runs with D test documents. Each command works in a process of its own; its seconds are those of a processor
(user and system, the picture process included), so other work on the machine changes them little. A state is the
checkpoint of a training with that many steps; the events are the log of one run.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import report

SIZES = ["50x200", "500x200"]
METHODS = (
    "zero_shot", "soft_prompt", "lora", "dora", "rslora", "ia3", "ln_tuning", "last_layers", "prefix_tuning", "full",
)  # fmt: skip
FULL_METRICS = (
    "rouge1", "rouge2", "rougeL", "rougeLsum", "rouge1_mean", "rouge2_mean", "rougeL_mean", "rougeLsum_mean", "length",
    "novelty", "copy_rate", "repetition", "unsupported_numbers", "unsupported_names",
)  # fmt: skip


def make_study(folder: Path, runs: int, documents: int, steps: int, *, words: int = 300) -> None:
    """A finished study: one zero-shot run, the other runs shared by the trained methods, as many seeds as it takes."""
    from tuneoff.results.run_record import Document
    from tuneoff.results.study_dir import StudyDir
    from tuneoff.results.study_state import DataFile, PlanFile
    from tuneoff.spec import DataSpec, StudySpec

    rng = random.Random(0)
    study = StudyDir(folder)
    trained = METHODS[1 : max(2, min(len(METHODS), runs))]
    seeds = max(1, (runs - 1) // len(trained))
    names = []
    for method in (METHODS[0], *trained):
        for seed in range(seeds if method in trained else 1):
            names.append(f"{method}-s{seed}-{len(names):016x}")
            _make_run(study, names[-1], method, seed, documents, steps if method in trained else 0, rng)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)]
    study.write_documents(
        Document(
            id=f"d{at}",
            group=f"{at:016x}",
            document=" ".join(rng.choices(vocabulary, k=words)),
            references=(" ".join(rng.choices(vocabulary, k=20)),),
        )
        for at in range(documents)
    )
    study.write_spec(
        StudySpec(name="large", methods=(METHODS[0], *trained), seeds=seeds, data=DataSpec(source="starter"))
    )
    study.write_plan(PlanFile(data="made up", numerics=8, runs=tuple(names)))
    counts = {"train": 1000, "validation": 100, "test": documents}
    study.write_data(DataFile(description="made up", counts=counts, content_hash="made up"))


def _make_run(study: object, name: str, method: str, seed: int, documents: int, steps: int, rng: random.Random) -> None:
    from tuneoff.results.run_record import (
        Artefact,
        Curve,
        PhaseResources,
        Prediction,
        Reading,
        Record,
        Resources,
        TimelinePoint,
        TrainPoint,
        ValidationPoint,
    )
    from tuneoff.results.study_dir import StudyDir
    from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

    assert isinstance(study, StudyDir)
    unmeasured = Reading(value=None, unit="J", reason="made up")
    phase = PhaseResources(
        wall_seconds=rng.uniform(2, 9),
        cpu_seconds=5.0,
        tokens=1000,
        peak_memory_bytes=10**9,
        accelerator_peak_bytes=unmeasured,
        energy=unmeasured,
    )
    timeline = tuple(TimelinePoint(seconds=float(at), phase="train", memory_bytes=10**9, cpu=2.0) for at in range(600))
    points = tuple(
        TrainPoint(
            step=at, epoch=at / 100, seconds=at * 0.1, loss=3 / at + rng.random(), learning_rate=1e-3, grad_norm=1.0,
            tokens=900,
        )
        for at in range(1, steps + 1)
    )  # fmt: skip
    run_dir = study.run_dir(name)
    mean = 25 + METHODS.index(method) + rng.gauss(0, 1)

    def prediction(at: int) -> Prediction:
        scores = {metric: _score(metric, rng.gauss(mean, 8)) for metric in FULL_METRICS}
        scores |= {"empty": 0.0, "unstopped": 0.0}
        text = f"{method} {at} {rng.random()} wrote a text of some twenty words, as long as a summary of an article is"
        return Prediction(id=f"d{at}", text=text, scores=scores, tokens=30, stopped=True)

    run_dir.write_predictions(prediction(at) for at in range(documents))
    best = ValidationPoint(step=steps, epoch=1.0, seconds=9.0, loss=2.5 - METHODS.index(method) / 100)
    run_dir.write_record(
        Record(
            run_id=name.rpartition("-")[2],
            name=name.rpartition("-")[0],
            status="finished",
            spec=RunSpec(
                model=ModelSpec(name="starter"),
                prompt=PromptSpec(),
                data=DataSpec(source="starter"),
                method=MethodSpec(name=method),
                seed=seed,
            ),
            started_at="2026-01-01T00:00:00+00:00",
            finished_at="2026-01-01T00:01:00+00:00",
            curve=Curve(
                train=points,
                validation=(best,),
                best_step=steps,
                best_epoch=1.0,
                best_validation_loss=best.loss,
            ),
            scores={"rouge1": mean},
            resources=Resources(
                phases={"load": phase, "train": phase, "generate": phase},
                peak_memory_bytes=10**9,
                threads=2,
                timeline=timeline,
            ),
            trainable_parameters=steps * 10,
            total_parameters=10**6,
            artefact=Artefact(format="peft", bytes=10),
        )
    )


def _score(metric: str, value: float) -> float:
    """A score within the scale of its metric; `value` is for one from 0 to 100."""
    bounded = min(100.0, max(0.0, value))
    return bounded if metric.startswith("rouge") or metric == "length" else bounded / 100


def work_summary(folder: Path) -> None:
    """Read a study and write its summary."""
    from tuneoff.results.study_dir import StudyDir
    from tuneoff.verdict.summarize import summarize

    study = StudyDir(folder).load()
    study.dir.write_summary(summarize(study))


def work_report(folder: Path) -> None:
    """`tuneoff report`."""
    from tuneoff import load_study

    load_study(folder).report()


def work_judge(folder: Path) -> None:
    """`tuneoff judge`."""
    from tuneoff import judge

    judge(folder)


def work_follow(folder: Path) -> None:
    """What the parent of a run reads of its events, as it does while the run works."""
    from tuneoff.results.events import Follower, RunSoFar

    so_far = RunSoFar(Follower(folder / "events.jsonl").poll())
    assert so_far.step is not None
    assert so_far.step.step == so_far.step.steps


def work_state(folder: Path) -> None:
    """Read a checkpoint again."""
    from tuneoff.engine.checkpoint import read_state

    read_state(folder / "state.safetensors")


PARTS: dict[str, Callable[[Path], None]] = {
    "summary": work_summary,
    "report": work_report,
    "judge": work_judge,
    "follow": work_follow,
    "state": work_state,
}


def write_events(path: Path, count: int) -> None:
    """The log of a run of `count` steps, as the training loop reports them."""
    from tuneoff.results.events import EventWriter, StepDone
    from tuneoff.results.run_record import TrainPoint
    from tuneoff.results.step_thinning import ThinnedSteps

    thinned = ThinnedSteps()
    with EventWriter(path) as events:
        for step in range(1, count + 1):
            point = TrainPoint(
                step=step,
                epoch=step / 100,
                seconds=step / 10,
                loss=2.0 + 1 / step,
                learning_rate=1e-3,
                grad_norm=1.0,
                tokens=900,
            )
            if thinned.add(point) or step == count:
                events.append(StepDone(steps=count, **point.model_dump()))


def write_training_state(folder: Path, steps: int) -> None:
    """The checkpoint of a small model after `steps` steps, as the training loop writes it."""
    import torch

    from tuneoff.engine.checkpoint import write_state
    from tuneoff.engine.trainer import _Progress
    from tuneoff.results.run_record import TrainPoint

    progress = _Progress(folder)
    for step in range(1, steps + 1):
        progress.step = step
        progress.train.add(
            TrainPoint(
                step=step,
                epoch=step / 100 + 0.123456789,
                seconds=step * 0.123456789,
                loss=2.3456789,
                learning_rate=0.000123456,
                grad_norm=1.23456789,
                tokens=1888,
            )
        )
    write_state(folder / "state.safetensors", {"weights/a": torch.ones(4)}, {"course": progress.as_data()})


def alone(part: str, folder: Path) -> dict[str, float]:
    """Seconds of a processor and peak memory, in MB, of a part in a process of its own; -1 for one that failed."""
    done = subprocess.run([sys.executable, __file__, "--part", part, str(folder)], stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    print(f"{folder.name} {part}: {answer or 'FAILED'}", file=sys.stderr, flush=True)
    return answer or {"seconds": -1.0, "peak": -1.0}


def used() -> dict[str, float]:
    """Of this process and of those that it started."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return {"seconds": round(seconds, 2), "peak": round(own.ru_maxrss * 1024 / 1e6)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=SIZES, metavar="RxD")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--events", type=int, default=1_000_000, help="steps of the run whose log is followed")
    parser.add_argument("--states", type=int, nargs="*", default=[10_000, 100_000], help="steps of a checkpoint")
    parser.add_argument("--folder", type=Path, help="keeps the studies here, and takes those that are there")
    parser.add_argument("--part", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        part, folder = chosen.part
        PARTS[part](Path(folder))
        print(json.dumps(used()))
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = chosen.folder or Path(temporary)
        for size in chosen.sizes:
            folder = root / size
            if not (folder / "data.json").exists():
                runs, documents = map(int, size.split("x"))
                make_study(folder, runs, documents, chosen.steps)
            for part in ("summary", "report", "judge"):
                found = alone(part, folder)
                rows.append(report.at_most(f"{size} {part}, processor seconds", 60, found["seconds"]))
                rows.append(report.at_most(f"{size} {part}, peak MB", 1000, found["peak"]))
            page = (folder / "report.html").stat().st_size
            rows.append(report.at_most(f"{size} report.html, MB", 10, page / 1e6))
        if chosen.events:
            folder = root / "events"
            folder.mkdir(parents=True, exist_ok=True)
            write_events(folder / "events.jsonl", chosen.events)
            found = alone("follow", folder)
            rows.append(
                report.at_most(
                    f"{chosen.events} steps, MB of events", 30, (folder / "events.jsonl").stat().st_size / 1e6
                )
            )
            rows.append(report.at_most(f"{chosen.events} steps, events followed, peak MB", 200, found["peak"]))
        for steps in chosen.states:
            folder = root / f"state-{steps}"
            folder.mkdir(parents=True, exist_ok=True)
            write_training_state(folder, steps)
            megabytes = (folder / "state.safetensors").stat().st_size / 1e6
            rows.append(report.at_most(f"state of {steps} steps, MB", 10, megabytes))
            rows.append(
                report.at_most(f"state of {steps} steps, read in seconds", 20, alone("state", folder)["seconds"])
            )
    report.show(rows)


if __name__ == "__main__":
    main()
