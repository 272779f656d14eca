"""A job, and targets for `LocalExecutor`: each is called in a process of its own, as `tuneoff.run.run` would be."""

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from support.planned import curve_of
from tuneoff.results.events import EventWriter, Finished, Note, PhaseStarted, Sampled, StepDone, Validated
from tuneoff.results.json_files import write_text_atomic
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record, RunDetails
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec
from tuneoff.stopping import Stopped
from tuneoff.study.executor import Job

PRELOAD = ("tuneoff.results.study_dir", "support.fake_runs")
STATE: list[str] = []


def job(folder: Path, method: str = "lora", name: str = "lora-s0") -> Job:
    spec = RunSpec(
        model=ModelSpec(), prompt=PromptSpec(), data=DataSpec(source="starter"), method=MethodSpec(name=method)
    )
    return Job(spec=spec, run_id="0123456789abcdef", name=name, dir=RunDir(folder))


def steps(writer: EventWriter, count: int) -> None:
    writer.append(PhaseStarted(phase="train", seconds=0.0))
    writer.append(Note(text="cut"))
    for number in range(1, count + 1):
        writer.append(
            StepDone(
                step=number, steps=9, epoch=0.1, loss=3.0 / number, learning_rate=1e-3, grad_norm=1.0, tokens=7,
                seconds=float(number),
            )
        )  # fmt: skip
    writer.append(Validated(step=count, epoch=0.1, loss=1.25, best=True, seconds=float(count)))
    writer.append(Sampled(seconds=0.5, phase="train", memory_bytes=3_210_000_000, cpu=1.0))


def finish_in_format(spec: RunSpec, folder: Path, run_id: str, name: str, *, number_format: str) -> None:
    """A run of a study that has decided on a number format."""
    record = Record(
        run_id=run_id, name=name, spec=spec, status="finished", started_at="2026-01-01T00:00:00+00:00",
        details=RunDetails(dtype=number_format),
    )  # fmt: skip
    RunDir(folder).write_record(record)


def train_together(spec: RunSpec, folder: Path, run_id: str, name: str, *, group: dict[str, Any]) -> None:
    """The first process of a run that several train. It ends when the others have said that they are there."""
    others = [folder / f"{rank}.json" for rank in range(1, group["size"])]
    while not all(other.exists() for other in others):
        time.sleep(0.02)
    details = {"group": group, "others": [json.loads(other.read_text()) for other in others]}
    record = Record(
        run_id=run_id, name=name, spec=spec, status="finished", started_at="2026-01-01T00:00:00+00:00",
        details=RunDetails.model_validate(details),
    )  # fmt: skip
    RunDir(folder).write_record(record)


def help_and_stay(spec: RunSpec, folder: Path, run_id: str, name: str, *, group: dict[str, Any]) -> None:
    """Another process of such a run, which would never end by itself."""
    write_text_atomic(folder / f"{group['rank']}.json", json.dumps({"group": group, "pid": os.getpid(), "name": name}))
    time.sleep(600)


def finish(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    """A good run. Its details describe the process."""
    STATE.append(name)
    details = {
        "pid": os.getpid(), "parent": os.getppid(), "state": list(STATE), "main": sys.modules["__main__"].__name__,
        "question": sys.stdin.read(), "interrupts_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "torch": "torch" in sys.modules, "decimal_preloaded": "decimal" in sys.modules,
    }  # fmt: skip
    print("chatter of a library")
    print("and its warnings", file=sys.stderr)
    os.system("echo from a grandchild")
    with EventWriter(folder / "events.jsonl") as writer:
        steps(writer, 3)
        record = Record(
            run_id=run_id, name=name, spec=spec, status="finished", started_at="2026-01-01T00:00:00+00:00",
            details=RunDetails.model_validate(details),
        )  # fmt: skip
        RunDir(folder).write_record(record)
        writer.append(Finished(status="finished"))


def kill_itself(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    with EventWriter(folder / "events.jsonl") as writer:
        steps(writer, 5)
    print("\x1b[31mlast words\x1b[0m")
    sys.stdout.flush()
    os.kill(os.getpid(), getattr(signal, spec.method.name))
    time.sleep(60)


def hang(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    with EventWriter(folder / "events.jsonl") as writer:
        steps(writer, 2)
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(120)


def hang_and_ignore_sigterm(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(spec, folder, run_id, name)


def crash(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    raise ZeroDivisionError("nobody caught me")


def fill_the_disk(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    raise OSError(errno.ENOSPC, "no room for the record", str(folder / "record.json"))


def exit_with_code(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    raise SystemExit(7)


def leave_running_record(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    RunDir(folder).write_record(Record(run_id=run_id, name=name, spec=spec, status="running", started_at="2026"))
    os.kill(os.getpid(), signal.SIGKILL)


def by_method(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    """The name of the method decides how the run ends."""
    {"crash": crash, "finish": finish, "hang": hang}.get(spec.method.name, kill_itself)(spec, folder, run_id, name)


def lora_trial_waits_for_zero_shot(spec: RunSpec, folder: Path, run_id: str, name: str, **_settings: object) -> None:
    """A run of a study. The first trial of LoRA ends when the final run of zero-shot has started."""
    end = time.monotonic() + 20
    waits = name == "lora-trial1"
    while waits and time.monotonic() < end:
        time.sleep(0.02)
        waits = not any(folder.parent.glob("zero_shot-s0-*"))
    RunDir(folder).write_record(
        Record(
            run_id=run_id, name=name, spec=spec, status="failed" if waits else "finished", started_at="2026",
            curve=curve_of({1: 1.0}),
        )
    )  # fmt: skip


def save_and_end(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    """A run that takes a moment to save its state when it is asked to end."""
    try:
        hang(spec, folder, run_id, name)
    except Stopped:
        time.sleep(0.5)
        (folder / "saved").touch()
        raise


def kill_the_server(spec: RunSpec, folder: Path, run_id: str, name: str) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def killed_for_memory(spec: RunSpec, folder: Path, run_id: str, name: str, *, parts: int = 1) -> None:
    """As if the system had killed it, unless it is small enough."""
    if parts < {"fine": 1, "too_large": 2}.get(name, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    details = RunDetails.model_validate({"parts": parts})
    RunDir(folder).write_record(
        Record(run_id=run_id, name=name, spec=spec, status="finished", started_at="2026", details=details)
    )
