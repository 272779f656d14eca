"""Every record and every file of predictions is read at most once by the commands that judge a study."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.verdict_study import edit_spec, run_dirs, study_folder, write_spec
from tuneoff.cli import verdicts
from tuneoff.report import figures, render
from tuneoff.report.pictures import Pictures
from tuneoff.results.run_dir import RunDir
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile
from tuneoff.verdict import find_model_to_use, summarize


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three methods at four fractions of the data, with one claim."""
    made = study_folder(tmp_path)
    for folder in run_dirs(made):
        for fraction in (0.1, 0.3, 0.5):
            copy = RunDir(folder.path.with_name(f"{folder.name}-{fraction}"))
            shutil.copytree(folder.path, copy.path)
            edit_spec(copy, fraction=fraction)
    claim = {"text": "better", "kind": "better", "methods": ["lora", "zero_shot"], "fraction": 0.1}
    fractions = [0.1, 0.3, 0.5, 1]
    write_spec(made, methods=["zero_shot", "lora", "full"], seeds=2, fractions=fractions, claims=[claim])
    StudyDir(made).write_data(DataFile(counts={"train": 1000}))
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, Path]]:
    """How often the record and the predictions of each run were read."""
    counts: Counter[tuple[str, Path]] = Counter()

    def count(name: str) -> None:
        original: Callable[[RunDir], object] = getattr(RunDir, name)

        def counted(folder: RunDir) -> object:
            counts[name, folder.path] += 1
            return original(folder)

        monkeypatch.setattr(RunDir, name, counted)

    count("read_record")
    count("read_predictions")
    return counts


def check(counts: Counter[tuple[str, Path]], study: Path, predictions: int = 1) -> None:
    """Each record was read once, and the predictions of a run at most so many times."""
    assert len(run_dirs(study)) == 20
    assert {path for name, path in counts if name == "read_record"} == {folder.path for folder in run_dirs(study)}
    assert {count for (name, _), count in counts.items() if name == "read_record"} == {1}
    assert max(count for (name, _), count in counts.items() if name == "read_predictions") <= predictions


def test_judge_reads_once(study: Path, reads: Counter[tuple[str, Path]]) -> None:
    verdicts.judge_output([study, study], "rouge1", 0.5, [], as_json=False)
    check(reads, study)


def test_report_reads_once(study: Path, reads: Counter[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "save_charts", lambda *_: Pictures((), None))
    loaded = StudyDir(study).load()
    render(summarize(loaded), loaded)
    # Scores, the reader and the page for ratings: texts of all runs at once would fill the memory.
    check(reads, study, predictions=3)


def test_summarize_reads_once(study: Path, reads: Counter[tuple[str, Path]]) -> None:
    loaded = StudyDir(study).load()
    loaded.dir.write_summary(summarize(loaded))
    find_model_to_use(loaded)
    check(reads, study)
