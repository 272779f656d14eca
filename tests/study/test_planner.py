"""From a study to its runs: pairing, names by content, folders that belong to one study."""

import dataclasses
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.run_record import Record, write_json, write_record
from tuneoff.spec import DataSpec, ModelSpec, StudySpec, TrainSpec
from tuneoff.study import plan, planner
from tuneoff.study.planner import Contents, PlannedRun

DATA = DataSpec(source="starter")
CONTENTS = Contents("d" * 16, {"starter": "a" * 16, "a/b": "b" * 16, "c/b": "c" * 16})


def study(**settings: object) -> StudySpec:
    return StudySpec.model_validate({"data": DATA, **settings})


def runs_of(**settings: object) -> list[PlannedRun]:
    return list(planner.expand(study(**settings), CONTENTS).runs)


def ids_of(**settings: object) -> set[str]:
    return {run.run_id for run in runs_of(**settings)}


def test_seeds_are_paired_and_what_trains_nothing_runs_once() -> None:
    runs = runs_of(methods=("zero_shot", "lora", "full"), seeds=3)
    seeds = {
        name: [run.spec.seed for run in runs if run.spec.method.name == name] for name in ("zero_shot", "lora", "full")
    }
    assert seeds == {"zero_shot": [0], "lora": [0, 1, 2], "full": [0, 1, 2]}


def test_a_study_that_is_interrupted_has_all_the_data_first() -> None:
    order = [run.spec.fraction for run in runs_of(fractions=(0.1, 0.5, 1.0))]
    assert set(order) == {0.1, 0.5, 1.0}
    assert order == sorted(order, reverse=True)


def test_every_hyperparameter_is_filled_in() -> None:
    [run] = runs_of(methods=("lora",), hyperparameters={"lora": {"r": 4}})
    assert run.spec.method.hyperparameters == {**planner.methods.defaults("lora"), "r": 4}


def test_a_hyperparameter_that_came_later_leaves_older_runs_their_ids() -> None:
    """The id of a run that was done before `soft_prompt` had these two."""
    later = {"keep_instruction": True, "residual_bottleneck": 0}
    [run] = runs_of(methods=("soft_prompt",))
    values = run.spec.method.hyperparameters
    assert later.items() <= values.items()
    before = {key: value for key, value in values.items() if key not in later}
    older = run.spec.model_copy(update={"method": run.spec.method.model_copy(update={"hyperparameters": before})})
    assert planner.run_id_of(older, CONTENTS.models["starter"], CONTENTS.data) == run.run_id
    for key, value in (("keep_instruction", False), ("residual_bottleneck", 8)):
        assert ids_of(methods=("soft_prompt",), hyperparameters={"soft_prompt": {key: value}}) != {run.run_id}


def test_all_methods_keep_room_for_the_one_that_needs_most() -> None:
    runs = runs_of(methods=("zero_shot", "soft_prompt"), hyperparameters={"soft_prompt": {"num_virtual_tokens": 7}})
    assert {run.spec.reserved_tokens for run in runs} == {7}
    assert {run.spec.reserved_tokens for run in runs_of(methods=("zero_shot",))} == {0}


def test_models_are_blocks_with_names_that_differ() -> None:
    assert [run.name for run in runs_of(methods=("full",))] == ["full-s0"]
    models = (ModelSpec(name="a/b"), ModelSpec(name="c/b"))
    assert [run.name for run in runs_of(methods=("full",), models=models)] == ["b-full-s0", "b.2-full-s0"]
    with pytest.raises(UserError, match="a/b is named twice"):
        runs_of(models=(models[0], models[0]))


def test_a_run_is_named_by_what_goes_into_it() -> None:
    before = ids_of()
    assert before == ids_of()
    assert before == ids_of(name="other")
    assert before == ids_of(hyperparameters={"lora": {"r": 16}})  # the default, spelt out
    assert not before & ids_of(train=TrainSpec(epochs=2))
    assert len(before & ids_of(hyperparameters={"lora": {"r": 4}})) == len(before) - 1
    assert not before & {run.run_id for run in planner.expand(study(), Contents("e" * 16, CONTENTS.models)).runs}
    assert not before & {
        run.run_id for run in planner.expand(study(), Contents(CONTENTS.data, {"starter": "z" * 16})).runs
    }


def test_a_run_is_not_named_by_where_files_lie() -> None:
    one = ids_of(data=DataSpec(train_file="here/train.jsonl"))
    assert one == ids_of(data=DataSpec(train_file="there/train.jsonl"))
    assert one != ids_of(data=DataSpec(train_file="here/train.jsonl", document_column="body"))


def test_a_new_version_of_the_numerics_names_runs_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids_of()
    monkeypatch.setattr(planner, "NUMERICS_VERSION", planner.NUMERICS_VERSION + 1)
    assert not before & ids_of()


def finish(folder: Path, run: PlannedRun, status: str = "finished", numerics: int = plan.NUMERICS_VERSION) -> None:
    record = Record(
        run_id=run.run_id,
        name=run.name,
        status=status,
        spec=run.spec,
        started_at="2026-01-01T00:00:00Z",
        provenance={"numerics_version": numerics},
    )
    write_record(folder / run.folder, record)


def test_only_a_finished_record_of_this_very_run_is_done(tmp_path: Path) -> None:
    first, second, third, _ = runs_of()
    finish(tmp_path, first)
    finish(tmp_path, second, "failed")
    write_json(tmp_path / third.folder / "record.json", {"damaged": True})
    assert [plan.is_done(tmp_path, run) for run in runs_of()] == [True, False, False, False]


def claim(folder: Path, spec: StudySpec, contents: Contents = CONTENTS) -> None:
    plan.claim(folder, spec, contents, planner.expand(spec, contents).runs)


@pytest.mark.parametrize(
    "later",
    [
        study(),
        study(methods=("zero_shot", "lora")),
        study(seeds=3),
        study(name="other"),
        study(models=(ModelSpec(name="starter"), ModelSpec(name="a/b"))),
        study(predictions={"api": "api.jsonl"}),
        study(hyperparameters={"lora": {"r": 16}}),
    ],
)
def test_the_same_study_and_its_extensions_may_go_on(tmp_path: Path, later: StudySpec) -> None:
    claim(tmp_path, study())
    claim(tmp_path, later)


@pytest.mark.parametrize(
    ("later", "change"),
    [
        (study(train=TrainSpec(epochs=2)), "train.epochs: 1.0 -> 2.0"),
        (study(hyperparameters={"lora": {"r": 4}}), "lora.r: 16 -> 4"),
        (study(data=DataSpec(source="starter", max_train_documents=3)), "data.max_train_documents: None -> 3"),
        (study(models=(ModelSpec(name="starter", precision="fp32"),)), "settings of model starter"),
    ],
)
def test_a_different_study_is_refused_with_the_difference(tmp_path: Path, later: StudySpec, change: str) -> None:
    claim(tmp_path, study())
    with pytest.raises(UserError) as caught:
        claim(tmp_path, later)
    assert change in str(caught.value)
    assert "--output" in str(caught.value)


@pytest.mark.parametrize(
    ("later", "change"),
    [
        (Contents("e" * 16, CONTENTS.models), "documents"),
        (Contents(CONTENTS.data, {"starter": "z" * 16}), "weights of model starter"),
    ],
)
def test_changed_contents_are_a_different_study(tmp_path: Path, later: Contents, change: str) -> None:
    claim(tmp_path, study())
    with pytest.raises(UserError, match=change):
        claim(tmp_path, study(), later)


def test_a_study_of_an_earlier_version_goes_on_when_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished runs keep their names and count; what had failed, or is new, is this version's; the next asks again."""
    now = plan.NUMERICS_VERSION
    first, second, *_ = before = runs_of()
    claim(tmp_path, study())
    finish(tmp_path, first)
    finish(tmp_path, second, "failed")
    for module in (plan, planner):
        monkeypatch.setattr(module, "NUMERICS_VERSION", now + 1)
    with pytest.raises(UserError, match=rf"begun with version {now} of tuneoff's numerics.*--keep-earlier.*--output"):
        claim(tmp_path, study())
    assert not plan.keeps_earlier_runs(tmp_path)

    kept = dataclasses.replace(CONTENTS, earlier=plan.earlier_runs(tmp_path))
    assert kept.earlier == {first.run_id: now}
    runs = planner.expand(study(), kept).runs
    assert [run.run_id in {old.run_id for old in before} for run in runs] == [True, False, False, False]
    assert [plan.is_done(tmp_path, run) for run in runs] == [True, False, False, False]
    claim(tmp_path, study(), kept)
    assert plan.keeps_earlier_runs(tmp_path)
    with pytest.raises(UserError, match="belongs to a different study"):
        claim(tmp_path, study(train=TrainSpec(epochs=2)), kept)

    monkeypatch.setattr(plan, "NUMERICS_VERSION", now + 2)
    assert not plan.keeps_earlier_runs(tmp_path)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(UserError, match="holds other files"):
        claim(tmp_path, study())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_study_is_not_written_over(tmp_path: Path) -> None:
    claim(tmp_path, study())
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        claim(tmp_path, study())
    (tmp_path / "study.json").write_text(study().model_dump_json())
    (tmp_path / "plan.json").write_text("[]")
    assert not plan.keeps_earlier_runs(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        claim(tmp_path, study())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is a file"):
            plan.check_writable(path)


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    plan.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
