"""`tuneoff watch`: lines until the study has ended, and the page."""

import dataclasses
import http.client
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.report_study import FakeStudy
from tuneoff.cli import main
from tuneoff.cli.watches import has_ended, open_watch_page, served, study_watch, watch
from tuneoff.local_page import LocalPage
from tuneoff.results.run_claims import Worker, WorkerState
from tuneoff.study.watching import StudyView, StudyWatch, WorkingRun


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return FakeStudy(tmp_path / "study").write(documents=4, methods=("zero_shot", "lora"))


def test_a_study_that_has_ended_is_shown_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(study)]) == 0
    printed = capsys.readouterr()
    first, *rest = printed.out.splitlines()
    assert first == "starter: 2 of 2 runs done; the study has ended"
    assert rest[0] == "plan: 2 methods, 1 seed"
    assert printed.err == ""


def test_it_waits_for_a_study_and_follows_it_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            FakeStudy(folder).write(documents=4, methods=("lora",))

    watched = study_watch(folder)
    watch(watched, until=has_ended(watched), sleep=sleep)
    printed = capsys.readouterr()
    assert "no study there yet; waiting until `tuneoff compare` begins it" in printed.err
    assert printed.out.count("the study has ended") == 1
    assert len(slept) == 3, "two looks agree on the end"


def test_the_last_lines_are_those_of_the_end(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also if the lines before were shown a moment ago, and only after two looks: more runs may be planned."""
    watched = StudyWatch(study)
    last = watched.look()
    under_way = dataclasses.replace(last, done=1, ended=False)
    views = iter([under_way, last, under_way, last, last])
    slept: list[float] = []
    watched.look = lambda team=None: next(views)  # type: ignore[method-assign]
    watch(watched, until=has_ended(StudyWatch(study.parent)), sleep=slept.append)
    assert capsys.readouterr().out.count("the study has ended") == 1
    assert len(slept) == 4


def test_lines_in_a_terminal_are_replaced_and_sanitized(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    watched = StudyWatch(study)
    views = iter([StudyView("x", begun=True, total=3, verdict="evil\x1b]0;owned\x07"), watched.look()])
    monkeypatch.setattr(watched, "look", lambda: next(views))
    watch(watched, until=lambda view: view.ended, sleep=lambda _: None)
    shown = stream.getvalue()
    assert "x: 0 of 3 runs done" in shown
    assert "starter: 2 of 2 runs done" in shown
    assert "evil?]0;owned?" in shown
    assert "\x07" not in shown


def test_what_cannot_be_watched_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x")
    assert main(["watch", str(file)]) == 2
    assert "a file, where the folder of a study was expected" in capsys.readouterr().err
    assert main(["watch", "s3://bucket/study"]) == 2
    assert "only a folder of this machine can be watched" in capsys.readouterr().err


def ask(address: str) -> dict[str, object]:
    at = urlsplit(address)
    connection = http.client.HTTPConnection(at.netloc, timeout=20)
    connection.request("POST", f"{at.path}view", "{}", {"Content-Type": "application/json"})
    found: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def test_the_page_asks_for_the_view(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(StudyWatch(study)):
        said = capsys.readouterr().err
        address = said[said.index("http://127.0.0.1:") :].strip()
        view = ask(address)
    assert view["ended"] is True
    assert str(view["headline"]).startswith("starter: 2 of 2 runs done")
    with pytest.raises(OSError, match=r"refused|reset"):
        ask(address)


def test_the_command_prints_the_address(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(page: LocalPage) -> None:
        page._server.server_close()
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalPage, "serve", interrupted)
    assert main(["watch", str(study), "--page"]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_a_port_that_is_taken_is_refused(study: Path) -> None:
    page = open_watch_page(StudyWatch(study), 0)
    try:
        port = urlsplit(page.address).port
        assert main(["watch", str(study), "--page", "--port", str(port)]) == 2
    finally:
        page._server.server_close()


def test_plain_lines_name_the_workers_and_come_again_when_something_changes(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not at every step, and not because time passes."""

    def view(step: int, seconds: float, state: WorkerState = "working") -> StudyView:
        worker = Worker("node7\x1b:1", "lora-s0-abc", seconds, seconds, state)
        return StudyView("x", begun=True, total=3, working=(WorkingRun("lora-s0", f"step {step}", 1, 2, worker),))

    views = [*(view(at, 2.0 * at) for at in range(40)), *(view(39, 80.0 + 2 * at, "silent") for at in range(40))]
    last, looks = views[-1], iter(views)
    watched = StudyWatch(study)
    watched.look = lambda team=None: next(looks)  # type: ignore[method-assign]
    watch(watched, until=lambda view: view is last, sleep=lambda _: None)
    assert capsys.readouterr().out.splitlines() == [
        "x: 0 of 3 runs done",
        "  node7?:1: lora-s0 for 0 s: step 0",
        "x: 0 of 3 runs done",
        "  node7?:1: lora-s0 for 1 min 20 s, silent for 1 min 20 s: step 39",
    ]
