"""What MLflow has logged, read back by its own package."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_tracked import EVENTS, LOSSES
from tracked_study import read_back

from tuneoff.trackers.mlflow import MlflowTracker


def test_a_run_is_read_back_by_mlflow(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    runs = read_back("mlflow", code, "mlflow ui --backend-store-uri", tmp_path, capfd)
    status, params, metrics, losses, files = runs["lora-s0"]
    assert (status, runs["full-s0"][0]) == ("FINISHED", "FAILED")
    assert (params["method.name"], params["method.hyperparameters.learning_rate"]) == ("lora", "0.001")
    assert losses == [[number, loss] for number, loss in enumerate(LOSSES, 1)]
    assert (metrics["scores/rouge1"], metrics["validation/loss"]) == (0.3125, 2.625)
    assert "scores/rouge2" not in metrics
    assert files == ["figures", "predictions.json", "settings.json"]


def test_a_metric_has_the_time_at_which_it_was_measured() -> None:
    """In milliseconds since 1970, as `mlflow.entities.Metric` of 3.17 wants it; charts over time are drawn by it."""
    logged: list[Any] = []
    tracker = object.__new__(MlflowTracker)
    tracker._run, tracker._metric = "run", lambda *values: values
    tracker._client = SimpleNamespace(log_batch=lambda _, metrics: logged.extend(metrics))
    before = time.time() * 1000 - 1
    for event in EVENTS:
        tracker.event(event)
    assert logged
    assert all(before <= moment <= time.time() * 1000 for _, _, moment, _ in logged)
