"""Scores of a study, and the complete table of them: which seeds and documents remain, and how groups are numbered."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from support.verdict_study import add_run, divide_into_folds, edit_spec, load, run_dirs, study_folder, write_spec
from tuneoff.errors import UserError
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Prediction
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import PlanFile
from tuneoff.verdict.decide import decide
from tuneoff.verdict.scores import Scores, group_indices, load_scores, tabulate
from tuneoff.verdict.summarize import summarize


def scores_of(runs: dict[tuple[str, int], dict[str, float | None]], **other: object) -> Scores:
    methods = tuple(dict.fromkeys(method for method, _ in runs))
    return Scores(methods=methods, scores=runs, **other)  # type: ignore[arg-type]


def test_only_common_seeds_and_documents_remain() -> None:
    table = tabulate(
        scores_of(
            {
                ("lora", 0): {"a": 1.0, "b": 2.0, "c": 3.0},
                ("lora", 1): {"a": 4.0, "b": 5.0, "c": 6.0},
                ("full", 1): {"a": 7.0, "b": None, "c": 9.0},
                ("full", 2): {"a": 1.0, "b": 1.0, "c": 1.0},
            }
        )
    )
    assert (table.methods, table.seeds, table.documents) == (("lora", "full"), (1,), ("a", "c"))
    assert table.values.tolist() == [[[4.0, 6.0]], [[7.0, 9.0]]]
    assert table.notes == (
        "Seeds 0 and 2 are excluded for all methods: lora and full did not finish with all of them.",
        "1 of 3 test documents are excluded: not every run has a score for them. Without a score: full 1.",
    )


def test_the_only_run_of_a_fixed_method_counts_for_every_seed() -> None:
    runs: dict[tuple[str, int], dict[str, float | None]] = {
        ("zero_shot", 0): {"a": 1.0, "b": 2.0},
        ("lora", 3): {"a": 3.0, "b": 4.0},
        ("lora", 4): {"a": 5.0, "b": 6.0},
    }
    table = tabulate(scores_of(runs, deterministic=frozenset({"zero_shot"})))
    assert table.seeds == (3, 4)
    assert table.values[0].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert table.varies.tolist() == [False, True]


def test_methods_without_a_common_seed_cannot_be_compared() -> None:
    table = tabulate(scores_of({("lora", 0): {"a": 1.0}, ("full", 1): {"a": 2.0}}))
    assert table.methods == ()
    assert "The trained methods have no seed in common, so they cannot be compared." in table.notes


def test_a_method_without_scores_is_named() -> None:
    table = tabulate(scores_of({("lora", 0): {"a": 1.0}, ("soft_prompt", 0): {"a": None}}))
    assert (table.methods, table.left_out) == (("lora",), ("soft prompt",))


def test_a_document_without_a_group_is_its_own_group() -> None:
    runs: dict[tuple[str, int], dict[str, float | None]] = {("lora", 0): dict.fromkeys("abcd", 1.0)}
    # "b" is also the name of a group, which document b does not belong to.
    table = tabulate(scores_of(runs, groups={"a": "b", "d": "b"}))
    assert table.group_of.tolist() == [0, 1, 2, 0]


def test_scores_that_are_not_finite_are_missing() -> None:
    table = tabulate(scores_of({("lora", 0): {"a": float("nan"), "b": 2.0}}))
    assert table.documents == ("b",)


def test_a_duplicate_method_is_rejected() -> None:
    with pytest.raises(ValueError, match="duplicate method"):
        tabulate(Scores(methods=("lora", "lora"), scores={}))


def test_group_indices_follow_the_order_of_names() -> None:
    found = group_indices(["d1", "d2", "d3", "d4"], {"d1": "z", "d2": "a", "d4": "z"})
    assert found.tolist() == [2, 0, 1, 2]
    assert found.dtype == np.intp


def test_a_study_gives_scores_groups_and_costs(tmp_path: Path) -> None:
    (scores,) = load_scores(load(study_folder(tmp_path)))
    assert scores.methods == ("zero_shot", "lora", "full")
    assert scores.deterministic == {"zero_shot"}
    assert scores.title("lora") == "LoRA"
    assert scores.block is None
    assert len(set(scores.groups.values())) == 20
    assert scores.notes == ()
    assert scores.costs["zero_shot"]["train_seconds"].value == 0
    assert scores.costs["lora"]["train_seconds"].value == pytest.approx(10)
    assert scores.costs["lora"]["generate_seconds"].value == pytest.approx(1)
    assert scores.costs["full"]["peak_memory_bytes"].value == 2000
    assert scores.costs["full"]["artefact_bytes"].value == 50
    assert scores.costs["full"]["energy_joules"].value is None
    assert scores.costs["full"]["energy_joules"].reason == "no counter"
    verdict = decide(scores)
    assert (verdict.documents, verdict.groups, verdict.seeds) == (40, 20, (0, 1))
    assert any("40 test examples of 20 documents" in sentence for sentence in verdict.sentences)


def test_a_model_keeps_its_name_at_a_fraction_that_other_models_lack(tmp_path: Path) -> None:
    study = study_folder(tmp_path, models=("one", "two"))
    for folder in run_dirs(study):
        spec = folder.read_record().spec
        if spec.method.name == "zero_shot":  # it would take part at every fraction
            shutil.rmtree(folder.path)
        elif spec.model.name == "one":
            small = RunDir(folder.path.with_name(f"{folder.name}-small"))
            shutil.copytree(folder.path, small.path)
            edit_spec(small, fraction=0.1)
    assert [scores.block for scores in load_scores(load(study), fraction=0.1)] == ["one"]
    assert [scores.block for scores in load_scores(load(study))] == ["one", "two"]


def test_each_base_model_is_its_own_family(tmp_path: Path) -> None:
    first, second = load_scores(load(study_folder(tmp_path, models=("starter", "org/other"))))
    assert (first.block, second.block) == ("org/other", "starter")
    assert first.scores["lora", 0] != second.scores["lora", 0]
    assert any("with org/other" in sentence for sentence in decide(first).sentences)


def test_failed_runs_are_excluded_and_named(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    add_run(study, "soft_prompt", 0, {}, status="diverged")
    (scores,) = load_scores(load(study))
    assert "soft_prompt" in scores.methods
    assert scores.notes == ("Run soft_prompt-s0 is excluded: diverged.",)
    text = " ".join(decide(scores).sentences)
    assert "Not judged: Soft prompt has no finished, scored run." in text


def test_runs_outside_the_plan_are_not_judged(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    kept = tuple(folder.name for folder in run_dirs(study) if "full" not in folder.name)
    StudyDir(study).write_plan(PlanFile(runs=kept))
    assert load_scores(load(study))[0].methods == ("zero_shot", "lora")


def test_outside_systems_take_part_without_seeds_or_costs(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    ids = list(load_scores(load(study))[0].groups)
    rows = [Prediction(id=name, text="", scores={"rouge1": 50.0}) for name in ids]
    StudyDir(study).write_outside({"gpt": rows})
    (scores,) = load_scores(load(study))
    assert scores.methods[-1] == "gpt"
    assert "gpt" in scores.deterministic
    verdict = decide(scores)
    assert verdict.best == "gpt"
    assert all(entry.method is None for entry in verdict.recommendations)


def test_without_documents_each_example_is_its_own_group_and_that_is_said(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    (study / "documents.jsonl").unlink()
    (scores,) = load_scores(load(study))
    assert scores.groups == {}
    verdict = decide(scores)
    assert verdict.groups == verdict.documents == 40
    assert any("a document of its own" in line for line in verdict.sentences)


def test_outside_systems_of_an_earlier_choice_do_not_take_part(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    rows = [Prediction(id=name, text="", scores={"rouge1": 50.0}) for name in load(study).groups]
    StudyDir(study).write_outside({"gpt": rows, "gone": rows})
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2, predictions={"gpt": "gpt.jsonl"})
    assert load_scores(load(study))[0].methods == ("zero_shot", "lora", "full", "gpt")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("study.json", "{broken"),
        ("runs/starter-lora-s0/predictions.jsonl", '{"id": 3}\n'),
        ("runs/starter-lora-s0/predictions.jsonl", "{broken\n"),
        ("runs/starter-lora-s0/record.json", "{}"),
        ("documents.jsonl", '{"id": "x"}\n'),
        ("plan.json", '["lora"]'),
        ("outside/gpt.jsonl", '{"no": "id"}\n'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str) -> None:
    study = study_folder(tmp_path)
    path = study / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(UserError, match=path.name.replace(".", r"\.")):
        load_scores(load(study))


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no run to judge"):
        load_scores(load(tmp_path))


def test_two_runs_with_one_seed_are_refused(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    shutil.copytree(study / "runs" / "starter-lora-s0", study / "runs" / "starter-lora-s0-again")
    with pytest.raises(UserError, match="ran twice with seed 0"):
        load_scores(load(study))


def test_a_study_under_way_says_what_it_does_not_know(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=["zero_shot", "soft_prompt", "lora", "full"], seeds=3)
    shutil.rmtree(study / "runs" / "starter-full-s1")
    verdict = decide(load_scores(load(study))[0])
    assert verdict.left_out == ("Soft prompt",)
    assert verdict.sentences[1] == "Not judged: Soft prompt has no finished, scored run."
    assert "Planned runs are missing. Finished so far: LoRA 2 of 3 and Full fine-tuning 1 of 3." in verdict.notes
    assert "Seed 1 is excluded for all methods: Full fine-tuning did not finish with it." in verdict.notes
    (study / "runs" / "starter-full-s0" / "record.json").unlink()
    # Of all methods LoRA is the best of those that were run: that is no verdict on the others.
    (headline, *_) = decide(load_scores(load(study))[0]).sentences
    assert headline.startswith("LoRA is the best of the 2 methods that have runs")


def test_nothing_is_missing_from_a_study_that_is_done(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2)
    verdict = decide(load_scores(load(study))[0])
    assert verdict.left_out == ()
    assert not any("lanned" in line or "Not judged" in line for line in verdict.sentences)


def with_rows(study: Path, rows: list[Prediction]) -> StoredStudy:
    """The study with these predictions as those of one run, with digests that fit."""
    folder = next(folder for folder in run_dirs(study) if "lora" in folder.name)
    folder.write_predictions(rows)
    folder.write_record(folder.read_record())
    return load(study)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("g0-a", 1.0), ("g0-a", 99.0)], r"predictions\.jsonl: the document 'g0-a' is in it twice"),
        (
            [("g0-a", 1.0), ("elsewhere", 99.0)],
            r"has a score for the document 'elsewhere', which documents\.jsonl does",
        ),
        ([("g0-a", 100.5)], r"its ROUGE-1 is 100\.5 to 100\.5, and that is from 0 to 100; restore"),
        ([("g0-a", -1.0), ("g0-b", 2.0)], r"its ROUGE-1 is -1 to 2, and that is from 0 to 100"),
    ],
)
def test_scores_that_cannot_be_of_this_study_are_refused(
    tmp_path: Path, rows: list[tuple[str, float]], message: str
) -> None:
    study = with_rows(
        study_folder(tmp_path), [Prediction(id=key, text="", scores={"rouge1": value}) for key, value in rows]
    )
    with pytest.raises(UserError, match=message):
        load_scores(study)


def test_folds_are_judged_as_runs_on_all_documents(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2)
    whole = decide(load_scores(load(study))[0])
    divide_into_folds(study)
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2, data={"train_file": "x", "folds": 2})
    [scores] = load_scores(load(study))
    divided = decide(scores)
    assert (divided.pairs, divided.methods, divided.seeds) == (whole.pairs, whole.methods, whole.seeds)
    assert scores.deterministic == {"zero_shot"}
    assert [row.seeds for row in summarize(load(study)).rows] == [1, 2, 2]
    assert scores.notes == (
        "Cross-validation: each document was tested once, by trainings on the other 1 of 2 parts. These trainings "
        "share most of their documents, so the intervals hold for methods trained on these documents, not on others.",
    )


def test_a_seed_that_lacks_a_fold_is_excluded(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    divide_into_folds(study)
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2, data={"train_file": "x", "folds": 2})
    shutil.rmtree(next(folder.path for folder in run_dirs(study) if folder.name == "starter-lora-s1-fold2"))
    [scores] = load_scores(load(study))
    assert ("lora", 1) not in scores.scores
    assert "Seed 1 of LoRA is excluded: 1 fold of 2 is missing." in scores.notes
    assert "Planned runs are missing. Finished so far: LoRA 3 of 4." in scores.notes
    assert tabulate(scores).seeds == (0,)


def test_a_fold_that_ran_twice_is_refused(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    divide_into_folds(study)
    folder = next(folder.path for folder in run_dirs(study) if folder.name == "starter-lora-s1-fold2")
    shutil.copytree(folder, folder.with_name("again"))
    with pytest.raises(UserError, match="lora ran twice with seed 1"):
        load_scores(load(study))
