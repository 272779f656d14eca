"""What Trackio has logged, read back by its own package."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tracked import LOSSES


def test_a_run_is_read_back_by_trackio(
    read_back: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    names, config, history = read_back("trackio", code, "trackio show --project tuneoff")
    assert names == ["starter/full-s0", "starter/lora-s0"]
    assert config["method"]["name"] == "lora"
    assert [row["train/loss"] for row in history if "train/loss" in row] == LOSSES
    assert [row["scores/rouge1"] for row in history if "scores/rouge1" in row] == [0.3125]
    assert "first" in json.dumps(history)
