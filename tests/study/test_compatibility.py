"""Whether a study may use a folder: extensions may, other studies are refused with what differs."""

import dataclasses
from pathlib import Path

import pytest

from support.planned import HASHES, record_of, study_of
from tuneoff.errors import UserError
from tuneoff.results.run_record import NUMERICS_VERSION, DataProvenance, ModelProvenance
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import PlanFile
from tuneoff.spec import DataSpec, ModelSpec, StudySpec, TrainSpec
from tuneoff.study import compatibility, planner, run_id
from tuneoff.study.compatibility import check_folder, earlier_runs, keeps_earlier_runs, plan_file
from tuneoff.study.planner import ContentHashes


def use(folder: Path, study: StudySpec, hashes: ContentHashes = HASHES) -> None:
    """Check the folder and write what a study writes at its start."""
    directory = StudyDir(folder)
    check_folder(directory, study, hashes, keep_earlier=hashes.earlier is not None)
    directory.write_spec(study)
    directory.write_plan(plan_file(hashes, tuple(run.folder for run in planner.plan(study, hashes, {}).runs)))


@pytest.mark.parametrize(
    "later",
    [
        study_of(),
        study_of(methods=("zero_shot", "lora")),
        study_of(seeds=3),
        study_of(name="other"),
        study_of(models=(ModelSpec(name="starter"), ModelSpec(name="a/b"))),
        study_of(predictions={"api": "api.jsonl"}),
        study_of(hyperparameters={"lora": {"r": 16}}),
        study_of(fractions=(0.5, 1.0)),
        study_of(trials=2, halving=True),
    ],
)
def test_the_same_study_and_its_extensions_may_continue(tmp_path: Path, later: StudySpec) -> None:
    hashes = dataclasses.replace(HASHES, train_examples=400)
    use(tmp_path, study_of(), hashes)
    use(tmp_path, later, hashes)


@pytest.mark.parametrize(
    ("later", "change"),
    [
        (study_of(train=TrainSpec(epochs=2)), "train.epochs: 1.0 -> 2.0"),
        (study_of(hyperparameters={"lora": {"r": 4}}), "lora.r: 16 -> 4"),
        (study_of(data=DataSpec(source="starter", max_train_documents=3)), "data.max_train_documents: None -> 3"),
        (study_of(models=(ModelSpec(name="starter", precision="fp32"),)), "settings of model starter"),
    ],
)
def test_a_different_study_is_refused_with_the_difference(tmp_path: Path, later: StudySpec, change: str) -> None:
    use(tmp_path, study_of())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        use(tmp_path, later)
    assert change in str(caught.value)
    assert "--output" in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_many_differences_are_counted(tmp_path: Path) -> None:
    use(tmp_path, study_of())
    other = TrainSpec(epochs=2, batch_size=2, warmup=0.1, schedule="linear", max_grad_norm=2, patience=2, max_steps=9)
    with pytest.raises(UserError, match=r"; and 1 more\); choose another --output"):
        use(tmp_path, study_of(train=other))


@pytest.mark.parametrize(
    ("later", "change"),
    [
        (ContentHashes("e" * 16, HASHES.models), "documents"),
        (ContentHashes(HASHES.data, {"starter": "z" * 16}), "weights of model starter"),
    ],
)
def test_changed_contents_are_a_different_study(tmp_path: Path, later: ContentHashes, change: str) -> None:
    use(tmp_path, study_of())
    with pytest.raises(UserError, match=change):
        use(tmp_path, study_of(), later)


def test_a_study_of_an_earlier_version_continues_if_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished runs keep their ids and count; what failed or is new has this version; the next version asks again."""
    now, folder = NUMERICS_VERSION, StudyDir(tmp_path)
    before = planner.plan(study_of(), HASHES, {}).runs
    first, second, *_ = before
    use(tmp_path, study_of())
    records = [record_of(first), record_of(second, "failed")]
    for module in (compatibility, run_id):
        monkeypatch.setattr(module, "NUMERICS_VERSION", now + 1)
    with pytest.raises(UserError, match=rf"begun with version {now} of tuneoff's numerics.*--keep-earlier.*--output"):
        use(tmp_path, study_of())
    assert not keeps_earlier_runs(folder.read_plan())

    kept = dataclasses.replace(HASHES, earlier=earlier_runs(records))
    assert kept.earlier == {first.run_id: now}
    completed = {record.run_id: record for record in records}
    plan = planner.plan(study_of(), kept, completed)
    assert [run.run_id in {old.run_id for old in before} for run in plan.runs] == [True, False, False, False]
    assert [planner.is_done(run, completed) for run in plan.runs] == [True, False, False, False]
    use(tmp_path, study_of(), kept)
    assert keeps_earlier_runs(folder.read_plan())
    with pytest.raises(UserError, match="belongs to a different study"):
        use(tmp_path, study_of(train=TrainSpec(epochs=2)), kept)

    monkeypatch.setattr(compatibility, "NUMERICS_VERSION", now + 2)
    assert not keeps_earlier_runs(folder.read_plan())


def test_the_choice_to_keep_earlier_runs_is_remembered_even_if_there_are_none(tmp_path: Path) -> None:
    use(tmp_path, study_of(), dataclasses.replace(HASHES, earlier={}))
    assert keeps_earlier_runs(StudyDir(tmp_path).read_plan())
    assert not keeps_earlier_runs(PlanFile(numerics=NUMERICS_VERSION))
    assert not keeps_earlier_runs(None)


def test_only_finished_runs_of_earlier_versions_count() -> None:
    final, *_ = planner.plan(study_of(), HASHES, {}).runs
    trial, *_ = planner.plan(study_of(trials=1), HASHES, {}).runs
    records = [
        record_of(final, numerics=NUMERICS_VERSION - 1),
        record_of(trial, "diverged", numerics=NUMERICS_VERSION - 2),
    ]
    assert earlier_runs(records) == {
        final.run_id: NUMERICS_VERSION - 1,
        trial.run_id: NUMERICS_VERSION - 2,
    }
    others = [record_of(final), record_of(final, "diverged", numerics=1), record_of(final, "failed", numerics=1)]
    assert earlier_runs(others) == {}


def test_a_start_that_was_interrupted_between_two_files_continues(tmp_path: Path) -> None:
    StudyDir(tmp_path).write_spec(study_of())
    use(tmp_path, study_of())
    with pytest.raises(UserError, match="different study"):
        use(tmp_path, study_of(train=TrainSpec(epochs=2)))


def test_a_plan_that_is_missing_is_known_from_the_records(tmp_path: Path) -> None:
    use(tmp_path, study_of())
    (tmp_path / "plan.json").unlink()
    run = planner.plan(study_of(), HASHES, {}).runs[0]
    origin = {
        "data": DataProvenance(description="", content_hash=HASHES.data),
        "model": ModelProvenance(name="starter", content_hash=HASHES.models["starter"]),
    }
    record = record_of(run, numerics=NUMERICS_VERSION)
    record = record.model_copy(update={"provenance": record.provenance.model_copy(update=origin)})
    StudyDir(tmp_path).run_dir(run.folder).write_record(record)
    for other, change in (
        (ContentHashes("e" * 16, HASHES.models), "documents"),
        (ContentHashes(HASHES.data, {"starter": "z" * 16}), "weights of model starter"),
    ):
        with pytest.raises(UserError, match=change):
            check_folder(StudyDir(tmp_path), study_of(), other)
    use(tmp_path, study_of())
    assert StudyDir(tmp_path).read_plan() is not None


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(UserError, match="contains other files"):
        use(tmp_path, study_of())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_study_is_not_overwritten(tmp_path: Path) -> None:
    use(tmp_path, study_of())
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"damaged.*run the same command again"):
        use(tmp_path, study_of())
    (tmp_path / "study.json").write_text(study_of().model_dump_json())
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(UserError, match=r"damaged.*run the same command again"):
        use(tmp_path, study_of())
    assert (tmp_path / "plan.json").read_text() == "[]"
