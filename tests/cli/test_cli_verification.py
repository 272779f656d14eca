"""`tuneoff verify`: its text, its JSON and its exit codes."""

import json
from pathlib import Path

import pytest

from support.damage import write_study
from tuneoff.cli import main


def test_a_folder_is_checked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = write_study(tmp_path / "study").path
    assert main(["verify", str(study)]) == 0
    assert f"{study}: 22 files: 19 whole, 0 damaged, 0 missing, 0 unknown, 3 left out" in capfd.readouterr().out
    (study / "notes.txt").write_text("mine")
    assert main(["verify", str(study)]) == 0
    assert capfd.readouterr().out.startswith("unknown  notes.txt  (no manifest lists it)\n")
    (study / "notes.txt").unlink()
    (study / "plan.json").write_text("{}")
    assert main(["verify", str(study)]) == 1
    out = capfd.readouterr().out
    assert out.startswith("damaged  plan.json\n")
    assert "run the command that made the study again" in out
    assert main(["verify", str(study), "--json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert found["whole"] is False
    assert [file["path"] for file in found["files"] if file["state"] == "damaged"] == ["plan.json"]
    assert main(["verify", str(tmp_path)]) == 2
    assert "nothing can be checked" in capfd.readouterr().err
