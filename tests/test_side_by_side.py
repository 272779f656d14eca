"""The texts of all methods for one document."""

from pathlib import Path

import pytest

from support.stored_study import stored_study
from tuneoff.errors import UserError
from tuneoff.results.study_dir import StudyDir
from tuneoff.run import load_adapted
from tuneoff.side_by_side import SideBySide


def test_each_method_writes_and_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyDir(stored_study(tmp_path, monkeypatch)).load()
    loaded: list[str] = []

    def load(run):
        loaded.append(run.record.spec.method.name)
        return load_adapted(run)

    writers = SideBySide(study, load)
    assert set(writers.runs) == {"zero_shot", "soft_prompt", "lora", "full"}
    assert writers.fields == ()
    first = writers.write("lora", " Is few to that the clean. ", {})
    assert first.text
    assert first.seconds > 0
    assert first.note == ""
    assert writers.write("lora", "Is few to that the clean.", {}).text == first.text
    assert "only the first" in writers.write("zero_shot", "word " * 500, {}).note
    assert loaded == ["lora", "zero_shot"]
    monkeypatch.setattr(SideBySide, "_has_room", lambda self: False)
    writers.write("full", "A text.", {})
    writers.write("lora", "A text.", {})
    assert loaded == ["lora", "zero_shot", "full", "lora"]  # there was no memory to keep it
    for method, document, words in (("dora", "x", "there are"), ("lora", " ", "there is no document")):
        with pytest.raises(UserError, match=words):
            writers.write(method, document, {})


def test_a_study_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        SideBySide(StudyDir(tmp_path).load(), load_adapted)
