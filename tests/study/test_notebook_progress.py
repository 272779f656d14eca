"""Progress in a notebook: one line that is updated, with the names of runs escaped."""

import sys
import types
from pathlib import Path

import pytest

from support.fake_runs import job
from tuneoff.results.events import Generated, Note, PhaseStarted, StepDone
from tuneoff.results.run_claims import Team
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.study.notebook_progress import NotebookProgress, in_notebook


class Display:
    """What IPython shows: the HTML of one cell, replaced by each update."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, html: str) -> None:
        self.shown.append(html)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    found = Display()

    def show(html: str, display_id: bool) -> Display:
        assert display_id
        found.update(html)
        return found

    module = types.ModuleType("IPython.display")
    vars(module).update(HTML=str, display=show)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return found


def test_a_notebook_is_recognised_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    ipython = types.ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    for name, expected in (("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False)):
        shell = type(name, (), {})()
        vars(ipython)["get_ipython"] = lambda shell=shell: shell
        assert in_notebook() is expected
    vars(ipython)["get_ipython"] = lambda: None
    assert not in_notebook()


def test_one_line_shows_what_runs(display: Display, tmp_path: Path) -> None:
    run = job(tmp_path, name="<b>lora</b>-s0")
    record = Record(run_id=run.run_id, name=run.name, spec=run.spec, status="finished", started_at="2026")
    step = StepDone(step=3, steps=10, epoch=0.1, loss=2.0, learning_rate=1e-3, grad_norm=1.0, tokens=7, seconds=1.0)
    with NotebookProgress() as progress:
        progress.started(run)
        progress.event(run, PhaseStarted(phase="train", seconds=0.0))
        progress.event(run, step)
        progress.event(run, Note(text="not shown"))
        progress.event(run, Generated(done=1, total=8, seconds=2.0))
        progress.ended(run, StoredRun(run.dir, record))
    name = "&lt;b&gt;lora&lt;/b&gt;-s0"
    assert display.shown == [
        "preparing the study",
        f"0 runs ended; {name} starts",
        f"0 runs ended; {name}: train",
        f'<progress value="3" max="10"></progress> 0 runs ended; {name}: step 3 of 10',
        f'<progress value="1" max="8"></progress> 0 runs ended; {name}: text 1 of 8',
        f"1 run ended; {name} finished",
        "1 run ended",
    ]


def test_the_study_so_far_is_below(display: Display, tmp_path: Path) -> None:
    run = job(tmp_path)
    record = Record(run_id=run.run_id, name=run.name, spec=run.spec, status="finished", started_at="2026")
    with NotebookProgress(lambda: ["1 of 2 runs done", "<i>LoRA</i> 42.1"]) as progress:
        progress.ended(run, StoredRun(run.dir, record))
        progress.started(run)
    below = "<br><small>1 of 2 runs done</small><br><small>&lt;i&gt;LoRA&lt;/i&gt; 42.1</small>"
    assert display.shown[1:] == [
        f"1 run ended; lora-s0 finished{below}",
        f"1 run ended; lora-s0 starts{below}",
        f"1 run ended{below}",
    ]


def test_nothing_is_shown_outside_the_block(display: Display, tmp_path: Path) -> None:
    NotebookProgress().started(job(tmp_path))
    assert display.shown == []


def test_the_study_is_shown_again_while_several_work(display: Display, tmp_path: Path) -> None:
    boards = iter([["node7:1: full-s0 for 10 s"], ["node7:1: full-s0 for 20 s"]])
    with NotebookProgress(lambda: next(boards)) as progress:
        progress.event(job(tmp_path), Generated(done=1, total=8, seconds=2.0))
        progress.team(Team())
        progress.team(Team())
    with NotebookProgress() as alone:
        alone.team(Team())
    line = '<progress value="1" max="8"></progress> 0 runs ended; lora-s0: text 1 of 8'
    assert display.shown[1:4] == [line, *[f"{line}<br><small>node7:1: full-s0 for {at} s</small>" for at in (10, 20)]]
    assert display.shown[-2:] == ["preparing the study", "0 runs ended"]
