"""What an observer passes to trackers: damaged predictions do not stop a run, and texts can be withheld."""

from pathlib import Path

import pytest
from fake_tracked import EVENTS, record, spec

from tuneoff import report
from tuneoff.report.pictures import Pictures
from tuneoff.results.events import Event
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Prediction, Record
from tuneoff.spec import RunSpec
from tuneoff.study.executor import Job
from tuneoff.trackers import Figures, GuardedTracker, Predictions
from tuneoff.trackers.observer import TrackerObserver


class Reader:
    """A tracker that keeps all that it receives."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.figures: list[str] = []
        self.texts: list[str] = []

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        self.calls.append(f"start {group}/{name} {spec.method.name}")

    def event(self, event: Event) -> None:
        self.calls.append(type(event).__name__)

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        self.figures += [path.name for path in figures()]
        self.texts += [row.text for row in predictions()]
        self.calls.append(f"finish {record.status}")


def stored(folder: Path, status: str = "failed") -> StoredRun:
    return StoredRun(RunDir(folder), record("lora-s0", "finished" if status == "finished" else "failed"))


def job(run: StoredRun) -> Job:
    return Job(spec(), "id", "lora-s0", run.dir)


def test_every_tracker_follows_the_run(tmp_path: Path) -> None:
    run, readers = stored(tmp_path), [Reader(), Reader()]
    observer = TrackerObserver(readers, "study", keep_texts=True)
    observer.started(job(run))
    observer.event(job(run), EVENTS[0])
    observer.ended(job(run), run)
    observer.event(job(run), EVENTS[0])  # between two runs: of none of them
    for reader in readers:
        assert reader.calls == ["start study/lora-s0 lora", "PhaseStarted", "finish failed"]


def test_damaged_predictions_switch_a_tracker_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, reader = stored(tmp_path), Reader()
    (tmp_path / "predictions.jsonl").write_text("{")
    observer = TrackerObserver([GuardedTracker(reader, "wandb")], "study", keep_texts=True)
    for _ in range(2):
        observer.ended(job(run), run)
    assert reader.calls == []
    err = capsys.readouterr().err
    assert err.startswith("wandb is switched off, the runs go on (UserError: ")
    assert "predictions.jsonl" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("keep_texts", "texts"), [(False, []), (True, ["secret"])])
def test_withheld_texts_do_not_reach_a_tracker(tmp_path: Path, keep_texts: bool, texts: list[str]) -> None:
    run, reader = stored(tmp_path), Reader()
    run.dir.write_predictions([Prediction(id="a", text="secret")])
    TrackerObserver([reader], "study", keep_texts=keep_texts).ended(job(run), run)
    assert reader.texts == texts


@pytest.mark.parametrize(("status", "figures"), [("finished", ["loss.png"]), ("failed", [])])
def test_only_finished_runs_have_figures_and_only_as_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, figures: list[str]
) -> None:
    monkeypatch.setattr(report, "run_figures", lambda _run: Pictures((Path("loss.svg"), Path("loss.png")), None))
    run, reader = stored(tmp_path, status), Reader()
    TrackerObserver([reader], "study", keep_texts=True).ended(job(run), run)
    assert reader.figures == figures
