"""Study folders as tests look at them."""

from pathlib import Path

from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Document, Prediction, Record
from tuneoff.results.study_dir import StudyDir


def planned_run_folders(study: Path) -> list[Path]:
    """The folders of the runs that belong to a study, by name."""
    return [run.dir.path for run in StudyDir(study).load().runs]


def read_record(folder: Path) -> Record:
    return RunDir(folder).read_record()


def read_predictions(folder: Path) -> list[Prediction]:
    return RunDir(folder).read_predictions()


def read_documents(study: Path) -> list[Document]:
    return StudyDir(study).read_documents()
