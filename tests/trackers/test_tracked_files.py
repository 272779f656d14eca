"""What each tracker has logged, read back by its own package. Each keeps its files in the folder of a study."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tracked import EVENTS, LOSSES, PREDICTIONS, record, spec
from offline_run import PNG

from tuneoff.trackers import Closing, open_tracker

HERE = Path(__file__).parent


def track(name: str, folder: Path) -> str | None:
    """Two runs, of which the second fails, and closing words."""
    figure = folder / "loss.png"
    figure.write_bytes(PNG)
    tracker = open_tracker(name, folder)
    tracker.start("lora-s0", "starter", spec())
    for event in EVENTS:
        tracker.event(event)
    tracker.finish(record("lora-s0", "finished"), lambda: [figure], lambda: PREDICTIONS)
    tracker.start("full-s0", "starter", spec())
    tracker.finish(record("full-s0", "failed"))
    assert isinstance(tracker, Closing)
    return tracker.closing_words()


@pytest.fixture
def read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str, str, str], Any]:
    """`read_back(name, code, closing)`: what `code`, run in a process of its own, prints as JSON about a tracked study.

    Nothing of what a tracker's package prints may reach the program's output.
    """

    def read(name: str, code: str, closing: str) -> Any:
        words = track(name, tmp_path)
        assert words is not None
        assert closing in words
        assert capfd.readouterr() == ("", "")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return read


def test_tensorboard(read_back: Callable[..., Any]) -> None:
    pytest.importorskip("tensorboard", exc_type=ImportError)
    code = """if True:
        import json, sys
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        read = EventAccumulator(sys.argv[1] + "/tensorboard/lora-s0", size_guidance={"tensors": 0})
        read.Reload()
        curves = {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
        texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
        print(json.dumps([curves, texts, read.Tags()["images"]]))
    """
    curves, texts, images = read_back("tensorboard", code, "tensorboard --logdir")
    assert curves["train/loss"] == [[number, loss] for number, loss in enumerate(LOSSES, 1)]
    assert curves["validation/loss"] == [[3, 2.625]]
    assert curves["resources/memory_bytes"] == [[4, pytest.approx(123_456_789, abs=8)]]
    assert curves["scores/rouge1"] == [[0, 0.3125]]
    assert "scores/rouge2" not in curves
    assert '"name": "lora"' in texts["settings/text_summary"]
    assert "| first \U0001f600 text | True | 0.5 |" in texts["predictions/text_summary"]
    assert texts["status/text_summary"] == "finished"
    assert images == ["figures/loss"]


def test_mlflow(read_back: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", exc_type=ImportError)
    pytest.importorskip("sqlalchemy", exc_type=ImportError)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = """if True:
        import json, sys
        from mlflow import MlflowClient
        client = MlflowClient(tracking_uri="sqlite:///" + sys.argv[1] + "/mlflow.db")
        [experiment] = [each for each in client.search_experiments() if each.name == "starter"]
        found = {}
        for run in client.search_runs([experiment.experiment_id]):
            number = run.info.run_id
            losses = [(each.step, each.value) for each in client.get_metric_history(number, "train/loss")]
            files = sorted(each.path for each in client.list_artifacts(number))
            found[run.info.run_name] = [run.info.status, run.data.params, run.data.metrics, losses, files]
        print(json.dumps(found))
    """
    runs = read_back("mlflow", code, "mlflow ui --backend-store-uri")
    status, params, metrics, losses, files = runs["lora-s0"]
    assert (status, runs["full-s0"][0]) == ("FINISHED", "FAILED")
    assert (params["method.name"], params["method.hyperparameters.learning_rate"]) == ("lora", "0.001")
    assert losses == [[number, loss] for number, loss in enumerate(LOSSES, 1)]
    assert (metrics["scores/rouge1"], metrics["validation/loss"]) == (0.3125, 2.625)
    assert "scores/rouge2" not in metrics
    assert files == ["figures", "predictions.json", "settings.json"]


def test_trackio(read_back: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", exc_type=ImportError)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    code = """if True:
        import json
        import trackio
        from trackio.sqlite_storage import SQLiteStorage
        runs = {run.name: run for run in trackio.Api().runs("tuneoff")}
        run = runs["starter/lora-s0"]
        history = SQLiteStorage.get_logs("tuneoff", run.name, run_id=run.id)
        print(json.dumps([sorted(runs), run.config, history], default=str))
    """
    names, config, history = read_back("trackio", code, "trackio show --project tuneoff")
    assert names == ["starter/full-s0", "starter/lora-s0"]
    assert config["method"]["name"] == "lora"
    assert [row["train/loss"] for row in history if "train/loss" in row] == LOSSES
    assert [row["scores/rouge1"] for row in history if "scores/rouge1" in row] == [0.3125]
    assert "first" in json.dumps(history)
