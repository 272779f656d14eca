"""`verify` reads everything, changes nothing, and says what each file is."""

from collections import Counter
from pathlib import Path

import pytest

from support.damage import write_study
from tuneoff.errors import UserError
from tuneoff.results.verification import verify


def states(folder: Path) -> dict[str, str]:
    return {file.path: file.state for file in verify(folder)}


def test_what_is_whole_damaged_missing_and_unknown(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study").path
    (study / "notes.txt").write_text("of the user")
    assert Counter(states(study).values()) == {"whole": 19, "unknown": 1, "left out": 3}  # notes, lock and logs
    one, other = sorted((study / "runs").iterdir())
    (one / "artefact" / "weights.bin").write_bytes(bytes(200))
    (one / "predictions.jsonl").unlink()
    (other / "manifest.json").write_text("{")
    (study / "report.html").write_text("<html >")
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    found = states(study)
    assert {name: state for name, state in found.items() if state not in ("whole", "unknown", "left out")} == {
        f"runs/{one.name}/artefact/weights.bin": "damaged",
        f"runs/{one.name}/predictions.jsonl": "missing",
        f"runs/{other.name}/manifest.json": "damaged",
        "report.html": "damaged",
    }
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before


def test_the_folder_of_a_run_is_checked_alone(tmp_path: Path) -> None:
    run = sorted((write_study(tmp_path / "study").path / "runs").iterdir())[0].rename(tmp_path / "run")
    assert set(states(run).values()) == {"whole", "left out"}
    (run / "artefact" / "weights.bin").unlink()
    assert states(run)["artefact/weights.bin"] == "missing"


def test_what_a_link_brings_in_is_damaged(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study").path
    (study / "documents.jsonl").rename(tmp_path / "elsewhere")
    (study / "documents.jsonl").symlink_to(tmp_path / "elsewhere")
    assert [(file.path, file.why) for file in verify(study) if file.state == "damaged"] == [
        ("documents.jsonl", "a link out of the folder")
    ]


def test_a_study_without_its_manifest(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study").path
    (study / "manifest.json").unlink()
    found = states(study)
    assert (found["manifest.json"], found["study.json"]) == ("missing", "unknown")


def test_a_folder_of_an_earlier_version_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no manifest\.json, so nothing can be checked"):
        list(verify(tmp_path))


def test_what_workers_left_is_no_file_of_somebody_else(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study").path
    names = ["claims/run/1.json", "attempts/run.1/record.json", "slurm/7_0.log"]
    for name in names:
        (study / name).parent.mkdir(parents=True)
        (study / name).write_text("{}")
    found = states(study)
    assert {found[name] for name in names} == {"left out"}
