"""How large a study was made, and how to make it larger."""

from pathlib import Path

from support.planned import curve_of
from support.verdict_study import edit_record, load, run_dirs, study_folder, write_spec
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile
from tuneoff.spec import DataSpec
from tuneoff.verdict.study_size import StudySize, more_test_documents, study_size


def test_the_way_out_fits_the_data() -> None:
    assert more_test_documents(40, held_out=True, limit=None) == (
        "with 40 rows, add --test-share 0.5, which tests on about 20"
    )
    assert "collect 20 rows or more" in more_test_documents(19, held_out=True, limit=None)
    assert "--test-file" in more_test_documents(40, held_out=False, limit=None)
    assert "raise --max-test-documents 4 to 10" in more_test_documents(400, held_out=True, limit=4)


def test_the_size_of_a_stored_study(tmp_path: Path) -> None:
    study = study_folder(tmp_path, groups=4)
    assert study_size(load(study), load(study).records) == StudySize(0, 0, held_out=False)
    for folder, steps in zip(run_dirs(study), (2, 7), strict=False):
        edit_record(folder, curve=curve_of({}, steps=steps))
    write_spec(study, data=DataSpec(train_file="train.jsonl", max_test_documents=4))
    StudyDir(study).write_data(DataFile(counts={"train": 32, "validation": 4, "test": 4}))
    assert study_size(load(study), load(study).records) == StudySize(40, 7, held_out=True, test_limit=4)
