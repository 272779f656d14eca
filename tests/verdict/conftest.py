"""Studies with texts, and a look at what a function wrote."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.verdict_study import run_dirs, study_folder
from tuneoff.metrics import RougeDialect, rouge
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StudyDir


@pytest.fixture
def texts_study(tmp_path: Path) -> Path:
    """A study with texts and references, scored with the stemmer."""
    study = StudyDir(study_folder(tmp_path))
    documents = [
        Document(id=row.id, group=row.group, document="", references=("models learning papers", "other words"))
        for row in study.read_documents()
    ]
    study.write_documents(documents)
    for number, folder in enumerate(run_dirs(study.path)):
        rows = []
        for index, row in enumerate(folder.read_predictions()):
            text = ("model learns paper", "the model is other", "papers")[(index + number) % 3]
            scores = rouge(text, documents[index].references, RougeDialect())
            rows.append(Prediction(id=row.id, text=text, scores=scores))
        folder.write_predictions(rows)
    return study.path


@pytest.fixture
def file_times() -> Callable[[Path], dict[str, int]]:
    """Time of the last change of every file in a folder."""
    return lambda folder: {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
