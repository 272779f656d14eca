"""A finished study with artefacts of a tiny model, which an earlier version wrote: nothing has to be trained."""

import shutil
from pathlib import Path

import pytest

from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StudyDir

_FIXTURE = Path(__file__).parents[1] / "fixtures" / "previous_version"


def stored_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study. Its model is named by a relative path, so the copy becomes the working directory."""
    copy = tmp_path / "previous"
    shutil.copytree(_FIXTURE, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return copy / "study"


def run_of(study: Path, method: str) -> StoredRun:
    """The first run of a method on all the data that left an artefact."""
    runs = StudyDir(study).load().runs
    return next(
        run
        for run in runs
        if run.record.spec.method.name == method and run.record.spec.is_main and run.dir.has_artefact_files(run.record)
    )
