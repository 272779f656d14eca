"""Weights & Biases, in offline mode."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tracked import LOSSES, spec

from tuneoff.errors import UserError
from tuneoff.trackers import TRACKERS
from tuneoff.trackers.wandb import foreign_server

pytestmark = pytest.mark.xdist_group("offline runs")

HERE = Path(__file__).parent
CANARY = "canary0123456789canary0123456789canary01"


def test_a_missing_package_can_be_installed_as_the_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install wandb"):
        TRACKERS["wandb"](tmp_path)


def in_python(arguments: list[str], folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A Python process without the wandb account and settings of the developer."""
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
    runs = {logged["name"]: logged for logged in map(json.loads, done.stdout.splitlines())}
    assert set(runs) == {"lora-s0", "full-s0"}
    for path in (folder / "work").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (CANARY, "provenance-canary"):
                assert secret.encode() not in content, path
            if path.suffix == ".wandb":
                assert b"offline_run.py" not in content
    return runs.__getitem__


def test_offline_runs_have_name_group_and_spec_only(offline: Callable[[str], dict[str, Any]]) -> None:
    logged = offline("lora-s0")
    assert logged["group"] == "starter"
    assert logged["host"] == "hidden"
    config = {key: value for key, value in logged["config"].items() if key != "_wandb"}
    assert config == spec().model_dump(mode="json")
    assert (logged["exit_code"], offline("full-s0")["exit_code"]) == (0, 1)


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


def test_offline_runs_have_scores_and_costs_without_invented_zeros(offline: Callable[[str], dict[str, Any]]) -> None:
    summary = offline("lora-s0")["summary"]
    assert summary["scores/rouge1"] == 0.3125
    assert "scores/rouge2" not in summary
    assert summary["best/validation_loss"] == 2.625
    assert summary["cost/train/wall_seconds"] == 12.5
    assert summary["cost/peak_memory_bytes"] == 1_000_000
    assert summary.get("cost/train/energy_joules") is None
    assert (summary["status"], offline("full-s0")["summary"]["status"]) == ("finished", "failed")


def test_offline_runs_have_predictions_and_figures(offline: Callable[[str], dict[str, Any]]) -> None:
    logged = offline("lora-s0")
    (table,) = logged["tables"]
    assert table["columns"] == ["id", "text", "stopped", "rouge1"]
    assert table["data"] == [["a", "first \U0001f600 text", True, 0.5], ["b", "second", False, None]]
    (page,) = logged["pages"]
    assert "data:image/png;base64,iVBOR" in page


ASK = (
    "import sys; from pathlib import Path; from tuneoff.trackers import open_tracker; open_tracker('wandb', Path('.'))"
)


def test_without_an_account_nothing_is_asked(tmp_path: Path) -> None:
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


def test_a_folder_of_a_stranger_does_not_choose_who_gets_the_key(tmp_path: Path) -> None:
    workspace, system = tmp_path / "workspace", tmp_path / "system"
    assert foreign_server(workspace, system, {}) is None
    workspace.write_text("[default]\nentity = team\n")
    assert foreign_server(workspace, system, {}) is None
    workspace.write_text("[default]\nbase_url = https://other.example\n")
    assert foreign_server(workspace, system, {}) == "https://other.example"
    assert foreign_server(workspace, system, {"WANDB_BASE_URL": "https://mine.example"}) is None
    system.write_text(workspace.read_text())
    assert foreign_server(workspace, system, {}) is None
