"""The process of a run: exit codes, answers of the server, and an end with the parent's."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_runs import PRELOAD, job
from tuneoff import stopping
from tuneoff.results.run_dir import RunDir

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def process(call: str) -> "subprocess.Popen[bytes]":
        code = f"import sys; sys.path[:] = {sys.path!r}; from tuneoff.study import worker; worker.{call}"
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe))
        return started[-1]

    yield process
    for each in started:
        each.kill()
        each.wait()
        for stream in (each.stdin, each.stdout, each.stderr):
            if stream is not None:
                stream.close()


def send(process: "subprocess.Popen[bytes]", folder: Path, target: str, method: str = "lora") -> None:
    folder.mkdir()
    asked = job(folder, method)
    line = {
        "target": f"support.fake_runs:{target}",
        "spec": asked.spec.model_dump(mode="json"),
        "folder": str(folder),
        "run_id": asked.run_id,
        "name": asked.name,
        "log": str(folder / "log.txt"),
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(line).encode() + b"\n")
    process.stdin.flush()


def answer(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


@pytest.mark.parametrize(("target", "code"), [("finish", 0), ("crash", 1), ("exit_with_code", 7)])
def test_a_single_run_ends_with_the_code_of_its_work(start: Start, tmp_path: Path, target: str, code: int) -> None:
    process = start("single()")
    send(process, tmp_path / "run", target)
    assert process.wait(timeout=60) == code
    if target == "finish":
        assert RunDir(tmp_path / "run").read_record().status == "finished"


def test_a_single_run_ends_when_its_parent_does(start: Start, tmp_path: Path) -> None:
    process = start("single()")
    send(process, tmp_path / "run", "hang_and_ignore_sigterm")
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 1


def test_the_server_forks_a_process_for_each_job(start: Start, tmp_path: Path) -> None:
    process = start(f"serve({PRELOAD!r})")
    assert answer(process) == {"ready": True}
    pids = []
    for number, (target, method, code) in enumerate(
        [("finish", "lora", 0), ("kill_itself", "SIGKILL", -signal.SIGKILL), ("crash", "lora", 1)]
    ):
        send(process, tmp_path / str(number), target, method)
        pids.append(answer(process)["pid"])
        assert answer(process) == {"exit": code}
    assert len({process.pid, *pids}) == 4
    assert "nobody caught me" in (tmp_path / "2" / "log.txt").read_text()


def test_an_import_that_fails_is_the_answer(start: Start) -> None:
    process = start("serve(('no_such_module',))")
    assert answer(process) == {"error": "ModuleNotFoundError: No module named 'no_such_module'"}
    assert process.wait(timeout=60) != 0


def test_a_server_whose_parent_dies_during_the_imports_ends_at_once(start: Start) -> None:
    """They may take a minute on a busy machine."""
    process = start("serve(('support.slow_import',))")
    assert process.stderr is not None
    assert process.stderr.readline() == b"importing\n"
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=30) == 1


def test_a_server_survives_the_signals_that_end_a_run(start: Start, tmp_path: Path) -> None:
    """A signal to the group would otherwise take the run with it, before its state is saved."""
    process = start(f"serve({PRELOAD!r})")
    assert answer(process) == {"ready": True}
    for name in set(stopping.NAMES) - {"SIGINT"}:
        process.send_signal(getattr(signal, name))
    send(process, tmp_path / "run", "finish")
    answer(process)
    assert answer(process) == {"exit": 0}


def test_models_are_built_before_a_fork(start: Start) -> None:
    shown = "print(worker.RunSpec.__pydantic_complete__)"
    builds = ("worker.build_models(worker.BaseModel); ", "")
    started = [start(f"os.getpid(); {build}{shown}") for build in builds]
    assert [process.communicate()[0].split() for process in started] == [[b"True"], [b"False"]]
