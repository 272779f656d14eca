"""Commands of the pages about several machines are carried out, those of a page in their order, with a tiny model.

Those that no test carries out are marked (`support/docs_commands.py`).
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from support.docs_commands import DOCS, commands_of
from support.fake_slurm import fake_slurm
from support.ray_cluster import ray_cluster
from support.ray_cluster import variables as cluster_variables
from support.s3_server import s3_server, use_server
from tiny import example_row
from tuneoff.api import load_study
from tuneoff.cli.verification import is_whole
from tuneoff.results.run_claims import CLAIMS
from tuneoff.results.store import local_copy
from tuneoff.results.verification import verify

PAGES = ("scaling.md", "shared_folder.md", "slurm.md", "ray.md", "object_stores.md")
# What the docs name -> what is there, in small amounts.
SUBSTITUTIONS = {
    "--preset starter": "--model=my-model --train-file=train.jsonl --validation-file=val.jsonl --test-file=test.jsonl "
    "--methods=zero_shot,lora --seeds=1 --trials=0 --max-steps=2 --max-length=128 --max-new-tokens=4 --precision=fp32",
}

pytestmark = pytest.mark.timeout(600)
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray`")  # not imported: later tests may fork


def lines_that_run(page: str) -> list[str]:
    """The commands of a page that are not marked, in their order."""
    found = commands_of(DOCS / page, (DOCS / page).read_text(encoding="utf-8"))
    return [command.typed for command in found if not command.marked]


def typed_here(line: str) -> list[str]:
    """A command of the docs as it is given here, to this interpreter."""
    for named, there in SUBSTITUTIONS.items():
        line = line.replace(named, there)
    name, *words = shlex.split(line)
    assert name == "tuneoff", line
    return [sys.executable, "-m", "tuneoff", *words]


def run_line(line: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(typed_here(line), capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, (line, done.stderr)
    return done


@pytest.fixture
def docs_folder(tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the files of the substitutions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(tiny_model("llama"), "my-model")
    for name, rows in (("train", range(24)), ("val", range(24, 32)), ("test", range(32, 40))):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(example_row(index)) + "\n" for index in rows))
    return tmp_path


def check_finished_study(folder: Path) -> None:
    """It has ended, with a verdict and a report, and is whole."""
    study = load_study(folder)
    assert sorted(record.status for record in study.runs()) == ["finished", "finished"]
    assert study.summary.rows
    assert (folder / "report.html").exists()
    assert is_whole(list(verify(folder)))


def test_the_pages_have_the_commands_that_are_carried_out() -> None:
    """The tests below take all commands of a page; a new one must be carried out there, or be marked."""
    found = {page: [line.split()[:2] for line in lines_that_run(page)] for page in PAGES}
    assert found == {
        "scaling.md": [["tuneoff", "compare"]],
        "shared_folder.md": [["tuneoff", "compare"], ["tuneoff", "work"], ["tuneoff", "work"]],
        "slurm.md": [["tuneoff", "compare"], ["tuneoff", "work"]],
        "ray.md": [["tuneoff", "compare"], ["tuneoff", "compare"]],
        "object_stores.md": [["tuneoff", "compare"], ["tuneoff", "judge"]],
    }


@pytest.mark.slow
def test_several_processes_of_the_docs(docs_folder: Path) -> None:
    [compare] = lines_that_run("scaling.md")
    assert "--processes 2" in compare
    run_line(f"{compare} --output runs/several")
    check_finished_study(Path("runs/several"))


@pytest.mark.slow
def test_the_shared_folder_of_the_docs(docs_folder: Path) -> None:
    """As the page says: the command that began the study is stopped, another machine does the rest."""
    compare, work, status = lines_that_run("shared_folder.md")
    first = subprocess.Popen(typed_here(compare), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(Path("runs/shared", CLAIMS).glob("*/*.json")), first)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert not Path("runs/shared/report.html").exists()
    assert re.search(r"^[12] runs? carried out here$", run_line(work).stderr, re.MULTILINE)
    assert "no run is claimed" in run_line(status).stdout
    run_line(compare)
    check_finished_study(Path("runs/shared"))


@pytest.mark.slow
def test_the_scheduler_of_the_docs(docs_folder: Path) -> None:
    compare, status = lines_that_run("slurm.md")
    with fake_slurm(docs_folder / "scheduler") as scheduler:
        run_line(compare)
        assert "no run is claimed" in run_line(status).stdout
        assert "#SBATCH --array=0-1" in (scheduler.folder / "1.script").read_text()
    check_finished_study(Path("runs/cluster"))


@pytest.mark.slow
@needs_ray
def test_the_rays_own_cluster_of_the_docs(docs_folder: Path) -> None:
    """Nothing of it listens where other machines could reach it, and it answers only to its token."""
    compare, _ = lines_that_run("ray.md")
    command = subprocess.Popen(typed_here(compare), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    hosts: set[str] = set()
    tokens: set[tuple[str, str]] = set()
    answers: list[str] = []
    while command.poll() is None:
        for process in family(command.pid):
            with contextlib.suppress(psutil.Error):  # it may have ended
                found = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
                hosts |= {each.laddr.ip.removeprefix("::ffff:") for each in found}
                if process.name() == "gcs_server":
                    variables = process.environ()
                    tokens.add((variables["RAY_AUTH_MODE"], variables["RAY_AUTH_TOKEN"]))
                    if found and not answers:
                        address = f"127.0.0.1:{found[0].laddr.port}"
                        answers = [answer_of(address, given) for given in (variables["RAY_AUTH_TOKEN"], "f" * 64, None)]
        time.sleep(0.2)
    _, said = command.communicate()
    assert command.returncode == 0, said
    check_finished_study(Path("runs/ray"))
    assert hosts == {"127.0.0.1"}
    [(mode, token)] = tokens
    assert mode == "token"
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    assert answers == ["answered", "refused", "refused"]


def family(process: int) -> list[psutil.Process]:
    """The processes that a process has started, and those that they have."""
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return []


ASKING = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).get_all_node_info(timeout=60)
"""


def answer_of(address: str, token: str | None) -> str:
    """What a cluster answers to a process with this token, or without one."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = [sys.executable, "-c", ASKING, address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return "answered"
    return "refused" if "token" in done.stderr else done.stderr


@pytest.mark.slow
@needs_ray
def test_another_cluster_of_the_docs(docs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is what RAY_ADDRESS names, as on a node of that cluster."""
    _, compare = lines_that_run("ray.md")
    assert "--address auto" in compare
    with ray_cluster(OMP_NUM_THREADS="1") as cluster:
        for _ in range(2):
            cluster.add_node()
        for name, value in {**cluster_variables(), "RAY_ADDRESS": cluster.address}.items():
            monkeypatch.setenv(name, value)
        run_line(compare)
    check_finished_study(Path("runs/ray"))


@pytest.mark.slow
def test_the_store_of_the_docs(docs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare, judge = lines_that_run("object_stores.md")
    with s3_server() as server:
        use_server(server, monkeypatch)
        run_line(compare)
        check_finished_study(local_copy("s3://bucket/starter"))
        monkeypatch.setenv("TUNEOFF_CACHE", str(docs_folder / "another"))
        assert "zero-shot" in run_line(judge).stdout.lower()
        check_finished_study(local_copy("s3://bucket/starter"))


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 240.0) -> None:
    """Wait while a process works."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
