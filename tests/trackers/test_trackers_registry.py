"""Trackers by name: those of tuneoff and those of other packages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_tracked import EVENTS, record, spec

from fake_package import write_package
from tuneoff.errors import UserError
from tuneoff.trackers import TRACKERS, check_trackers, close_trackers, open_tracker, open_trackers, registry

TRACKER = """
class Lines:
    def __init__(self, folder):
        self.file = folder / "lines.txt"

    def start(self, name, group, spec):
        self.file.write_text(f"{group}/{name} {spec.method.name}\\n")

    def event(self, event):
        pass

    def finish(self, record, figures=tuple, predictions=tuple):
        with self.file.open("a") as file:
            file.write(record.status)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("author_tracker", None)


def test_a_tracker_of_another_package_follows_a_run(site: Path, tmp_path: Path) -> None:
    write_package(site, "author-tracker", TRACKER, "[tuneoff.trackers]\nlines = author_tracker:Lines\n")
    assert list(TRACKERS) == ["mlflow", "tensorboard", "trackio", "wandb", "lines"]
    tracker = open_tracker("lines", tmp_path)
    tracker.start("lora-s0", "study", spec())
    tracker.event(EVENTS[0])
    tracker.finish(record("lora-s0", "finished"))
    assert close_trackers([tracker]) == []
    assert (tmp_path / "lines.txt").read_text() == "study/lora-s0 lora\nfinished"


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("lines", "Lines = 3", "3 cannot be called with a folder"),
        ("lines", "import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("none", TRACKER, "`--report-to none` means no tracker"),
    ],
)
def test_a_broken_tracker_is_one_sentence_that_names_the_package(
    site: Path, tmp_path: Path, name: str, source: str, why: str
) -> None:
    write_package(site, "author-tracker", source, f"[tuneoff.trackers]\n{name} = author_tracker:Lines\n")
    with pytest.raises(UserError, match="the package author-tracker adds") as caught:
        open_tracker(name, tmp_path)
    assert why in str(caught.value)


def test_a_tracker_that_cannot_start_is_a_user_error(site: Path, tmp_path: Path) -> None:
    source = "def Lines(folder):\n    raise OSError('no server')\n"
    write_package(site, "author-tracker", source, "[tuneoff.trackers]\nlines = author_tracker:Lines\n")
    with pytest.raises(UserError, match=r"--report-to lines: the tracker cannot start \(OSError: no server\)"):
        open_tracker("lines", tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("wanbd", "did you mean wandb?"),
        ("WANDB", "did you mean wandb?"),
        ("paper", "there is mlflow, tensorboard, trackio, wandb"),
    ],
)
def test_an_unknown_tracker_is_a_user_error(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        open_tracker(name, tmp_path)
    assert str(caught.value) == f"--report-to: unknown tracker {name!r}; {hint}"


def test_trackers_are_checked_without_being_opened(site: Path, tmp_path: Path) -> None:
    source = "def Lines(folder):\n    raise OSError('no server')\n"
    write_package(site, "author-tracker", source, "[tuneoff.trackers]\nlines = author_tracker:Lines\n")
    check_trackers(["none", "lines"], 1)
    check_trackers(["none"], None)
    assert open_trackers(["none"], tmp_path, 2) == []
    with pytest.raises(UserError, match="unknown tracker 'line'"):
        check_trackers(["line"], 1)
    for workers, typed in ((2, "2"), (None, "auto")):
        with pytest.raises(UserError, match=f"--workers {typed}: a tracker follows one run at a time"):
            open_trackers(["lines"], tmp_path, workers)
    for engine in ("ray:cpus=2", "slurm", "of_a_package"):
        check_trackers(["none"], 1, engine)
        with pytest.raises(UserError, match=f"--engine {engine}: its runs are out of sight of a tracker"):
            open_trackers(["lines"], tmp_path, 1, engine)
    for engine in ("local", "shared"):
        with pytest.raises(UserError, match="no server"):
            open_trackers(["lines"], tmp_path, 1, engine)


def test_the_registry_imports_nothing_heavy() -> None:
    code = "import sys, tuneoff.trackers; print([name for name in ('wandb', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_a_tracker_that_the_environment_switches_off_is_told_once_and_not_opened(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_DISABLED", value)
    monkeypatch.delattr(registry, "open_tracker")  # nothing is opened
    assert open_trackers(["wandb", "none", "wandb"], tmp_path) == []
    assert capsys.readouterr().err == "WANDB_DISABLED is set, so nothing is reported to wandb\n"


def test_a_switch_that_is_off_or_empty_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "open_tracker", lambda name, _folder: name)
    for value in ("", "false", "0"):
        monkeypatch.setenv("WANDB_DISABLED", value)
        assert [str(each) for each in open_trackers(["wandb"], tmp_path)] == ["wandb"]
