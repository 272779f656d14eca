"""What Trackio has logged, read back by its own package."""

import json
from pathlib import Path

import pytest
from fake_tracked import LOSSES
from tracked_study import read_back


def test_a_run_is_read_back_by_trackio(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    names, config, history = read_back("trackio", code, "trackio show --project tuneoff", tmp_path, capfd)
    assert names == ["starter/full-s0", "starter/lora-s0"]
    assert config["method"]["name"] == "lora"
    assert [row["train/loss"] for row in history if "train/loss" in row] == LOSSES
    assert [row["scores/rouge1"] for row in history if "scores/rouge1" in row] == [0.3125]
    assert "first" in json.dumps(history)
