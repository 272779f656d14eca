import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tracked import EVENTS, LOSSES, record, spec

from tuneoff import trackers
from tuneoff.errors import UserError
from tuneoff.results.events import Event
from tuneoff.results.run_record import Record, write_record
from tuneoff.spec import RunSpec
from tuneoff.study.executor import Job, Outcome
from tuneoff.study.progress import Progress
from tuneoff.trackers import Figures, GuardedTracker, Predictions, open_tracker

pytestmark = pytest.mark.xdist_group("offline runs")

HERE = Path(__file__).parent
CANARY = "canary0123456789canary0123456789canary01"


class Broken:
    """Works until the call that it is told to fail in."""

    def __init__(self, fails_in: str, error: BaseException) -> None:
        self.fails_in, self.error = fails_in, error
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails_in:
            raise self.error

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        self._called("start")

    def event(self, event: Event) -> None:
        self._called("event")

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        figures()
        predictions()
        self._called("finish")


def feed(tracker: trackers.Tracker) -> None:
    for _ in range(2):
        tracker.start("lora-s0", "study", spec())
        tracker.event(EVENTS[0])
        tracker.event(EVENTS[1])
        tracker.finish(record("lora-s0", "finished"))


@pytest.mark.parametrize(("fails_in", "calls"), [("start", 1), ("event", 2), ("finish", 4), ("never", 8)])
def test_a_tracker_that_raises_is_switched_off_with_one_line(
    fails_in: str, calls: int, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Broken(fails_in, ConnectionError("server\x1b[31m gone\nsecond line"))
    feed(GuardedTracker(broken, "wandb"))
    assert len(broken.calls) == calls
    out, err = capsys.readouterr()
    assert out == ""
    expected = "wandb is switched off, the runs go on (ConnectionError: server?[31m gone second line)\n"
    assert err == (expected if fails_in != "never" else "")


def test_ctrl_c_inside_a_tracker_is_no_error_of_the_tracker() -> None:
    with pytest.raises(KeyboardInterrupt):
        feed(GuardedTracker(Broken("event", KeyboardInterrupt()), "wandb"))


@pytest.mark.parametrize("damaged", ["record.json", "predictions.jsonl"])
def test_what_a_tracker_is_shown_is_made_under_guard_too(
    damaged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneoff.cli.session import _Watch

    ended = record("lora-s0", "finished")
    write_record(tmp_path, ended)
    (tmp_path / damaged).write_text("{")
    broken = Broken("never", ConnectionError())
    with Progress(2, quiet=True) as progress:
        watch = _Watch("study", progress, [GuardedTracker(broken, "wandb")], keep_texts=True)
        for _ in range(2):
            watch.finish(Outcome(Job(spec(), "id", "lora-s0", tmp_path), ended))
    assert broken.calls == []
    err = capsys.readouterr().err
    assert err.startswith("wandb is switched off, the runs go on (UserError: ")
    assert damaged in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "hint"), [("wanbd", "did you mean wandb?"), ("WANDB", "did you mean wandb?"), ("paper", "there is wandb")]
)
def test_an_unknown_tracker_is_a_user_error(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        open_tracker(name, tmp_path)
    assert str(caught.value) == f"--report-to: unknown tracker {name!r}; {hint}"


def test_a_missing_package_tells_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install wandb"):
        open_tracker("wandb", tmp_path)


def in_python(arguments: list[str], folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A Python without the account and the settings of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_") and key != "NETRC"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "HOME": str(folder), "NETRC": str(folder / "netrc"), **environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    pytest.importorskip("wandb", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("offline")
    (folder / "work").mkdir()
    done = in_python(
        [str(HERE / "offline_run.py"), str(folder / "work")],
        folder,
        WANDB_MODE="offline",
        HF_TOKEN=CANARY,
        WANDB_API_KEY=CANARY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    runs = {told["name"]: told for told in map(json.loads, done.stdout.splitlines())}
    assert set(runs) == {"lora-s0", "full-s0"}
    for path in (folder / "work").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (CANARY, "provenance-canary"):
                assert secret.encode() not in content, path
            if path.suffix == ".wandb":
                assert b"offline_run.py" not in content
    return runs.__getitem__


def test_offline_runs_have_name_group_and_the_spec_alone(offline: Callable[[str], dict[str, Any]]) -> None:
    told = offline("lora-s0")
    assert told["group"] == "starter"
    assert told["host"] == "hidden"
    config = {key: value for key, value in told["config"].items() if key != "_wandb"}
    assert config == spec().model_dump(mode="json")
    assert (told["exit_code"], offline("full-s0")["exit_code"]) == (0, 1)


@pytest.mark.parametrize("name", ["lora-s0", "full-s0"])
def test_offline_runs_have_the_curves(offline: Callable[[str], dict[str, Any]], name: str) -> None:
    history = offline(name)["history"]
    losses = [(row["train/step"], row["train/loss"]) for row in history if "train/loss" in row]
    assert losses == [(1, LOSSES[0]), (2, LOSSES[1]), (3, LOSSES[2])]
    assert [row["validation/loss"] for row in history if "validation/loss" in row] == [2.625]
    samples = [
        (row["seconds"], row["resources/memory_bytes"], row["resources/cpu_cores"])
        for row in history
        if "seconds" in row
    ]
    assert samples == [(4.5, 123_456_789, 1.75)]


def test_offline_runs_have_scores_and_costs_and_no_made_up_zero(offline: Callable[[str], dict[str, Any]]) -> None:
    summary = offline("lora-s0")["summary"]
    assert summary["scores/rouge1"] == 0.3125
    assert "scores/rouge2" not in summary
    assert summary["best/validation_loss"] == 2.625
    assert summary["cost/train/wall_seconds"] == 12.5
    assert summary["cost/peak_memory_bytes"] == 1_000_000
    assert summary.get("cost/train/energy_joules") is None
    assert (summary["status"], offline("full-s0")["summary"]["status"]) == ("finished", "failed")


def test_offline_runs_have_predictions_and_figures(offline: Callable[[str], dict[str, Any]]) -> None:
    told = offline("lora-s0")
    (table,) = told["tables"]
    assert table["columns"] == ["id", "text", "stopped", "rouge1"]
    assert table["data"] == [["a", "first \U0001f600 text", True, 0.5], ["b", "second", False, None]]
    (page,) = told["pages"]
    assert "data:image/png;base64,iVBOR" in page


ASK = (
    "import sys; from pathlib import Path; from tuneoff.trackers import open_tracker; open_tracker('wandb', Path('.'))"
)


def test_without_an_account_nothing_is_asked_and_the_way_out_is_told(tmp_path: Path) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    done = in_python(["-c", ASK], tmp_path)
    assert "UserError: --report-to wandb: no account is set up; run `wandb login`" in done.stderr
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {CANARY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert in_python(["-c", ASK], tmp_path).returncode == 0


def test_a_wrong_setting_is_a_user_error(tmp_path: Path) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    done = in_python(["-c", ASK], tmp_path, WANDB_MODE="offlin")
    assert "UserError: --report-to wandb: wandb cannot start:" in done.stderr


def test_opening_a_tracker_by_name_imports_nothing_heavy() -> None:
    code = "import sys, tuneoff.trackers; print([name for name in ('wandb', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
