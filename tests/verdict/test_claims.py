"""Claims: decided by the intervals of the verdict, or looked at in all seeds."""

from pathlib import Path

import pytest

from support.verdict_study import add_run, edit_record, edit_spec, load, run_dirs, study_folder
from tuneoff.errors import UserError
from tuneoff.results.run_record import Record, TrainPoint, ValidationPoint
from tuneoff.spec.study import ClaimSpec
from tuneoff.verdict.claims import check_claims, judge_claims
from tuneoff.verdict.decide import decide
from tuneoff.verdict.scores import load_scores


def judged(study: Path, **claim: object) -> str:
    records = load(study).records
    spec = ClaimSpec.model_validate({"text": "a claim", **claim})
    [found] = judge_claims([spec], records, decide(load_scores(load(study))[0]), None)
    return found.outcome


def test_quality(tmp_path: Path) -> None:
    study = study_folder(tmp_path)  # LoRA 12 points over zero-shot, full tuning much like LoRA
    assert judged(study, kind="better", methods=["lora", "zero_shot"]) == "supported"
    assert judged(study, kind="better", methods=["zero_shot", "lora"]) == "contradicted"
    assert judged(study, kind="better", methods=["full", "lora"]) == "undecided"
    assert judged(study, kind="equal", methods=["zero_shot", "lora"]) == "contradicted"
    assert judged(study, kind="equal", methods=["full", "lora"]) == "undecided"
    assert judged(study, kind="at_least", methods=["lora", "zero_shot"]) == "supported"
    assert judged(study, kind="at_least", methods=["zero_shot", "lora"]) == "contradicted"


def test_a_fraction_without_runs_is_undecided(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    assert judged(study, kind="better", methods=["lora", "zero_shot"], fraction=0.1) == "undecided"
    assert judged(study, kind="cost_order", cost="train_seconds", methods=["lora", "full"], fraction=0.1) == "undecided"


def test_costs_need_every_seed(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    order = {"kind": "cost_order", "cost": "train_seconds", "methods": ["lora", "zero_shot"]}
    # Zero-shot has only seed 0, and trains for 0 s; LoRA trains for 10 s.
    assert judged(study, **order) == "in all seeds"
    assert judged(study, **(order | {"methods": ["zero_shot", "lora"]})) == "in no seed"
    assert judged(study, **(order | {"methods": ["lora", "full"]})) == "in no seed"  # equal is not larger


def test_an_order_of_one_seed_is_undecided_and_one_of_counts_is_not(tmp_path: Path) -> None:
    """Two equal methods fall in the claimed order in one study of two; a size on disk has no chance in it."""
    study = study_folder(tmp_path)
    for method in ("lora", "full"):
        (study / "runs" / f"starter-{method}-s1" / "record.json").unlink()
    order = {"kind": "cost_order", "cost": "train_seconds", "methods": ["lora", "zero_shot"]}
    assert judged(study, **order) == "undecided"
    assert judged(study, **(order | {"cost": "artefact_bytes"})) == "supported"
    assert judged(study, **(order | {"cost": "artefact_bytes", "methods": ["zero_shot", "lora"]})) == "contradicted"


def test_an_order_of_times_from_concurrent_runs_is_undecided_without_timing_runs(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    order = {"kind": "cost_order", "cost": "train_seconds", "methods": ["lora", "zero_shot"]}
    for folder in run_dirs(study):
        record = folder.read_record()
        assert record.resources is not None
        concurrent = record.resources.model_copy(update={"processes": 2})
        edit_record(folder, resources=concurrent)
    assert judged(study, **order) == "undecided"
    assert judged(study, **(order | {"cost": "artefact_bytes"})) == "supported"
    for method in ("lora", "zero_shot"):
        folder = add_run(study, method, 9, {}, seconds=5.0)
        edit_spec(folder, role="timing")
    assert judged(study, **order) == "in all seeds"  # zero-shot trains for 0 s, which needs no timing


def test_one_timing_run_of_each_method_is_not_a_timing_of_every_seed(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    for folder in run_dirs(study):
        record = folder.read_record()
        assert record.resources is not None
        edit_record(folder, resources=record.resources.model_copy(update={"processes": 2}))
    for method, seconds in (("lora", 5.0), ("full", 4.0)):
        edit_spec(add_run(study, method, 9, {}, seconds=seconds), role="timing")
    claim = ClaimSpec(text="x", kind="cost_order", cost="train_seconds", methods=("lora", "full"))
    [scores] = load_scores(load(study))
    [found] = judge_claims([claim], load(study).records, decide(scores), None, seeds=2)
    assert found.outcome == "undecided"
    assert found.why.startswith("one timing run of each method, of unknown error: lora ")
    assert sum("one timing run for each method" in note for note in scores.notes) == 1
    for cost, outcome in (("peak_memory_bytes", "in no seed"), ("generate_seconds", "undecided")):
        assert judged(study, kind="cost_order", cost=cost, methods=["lora", "full"]) == outcome


def trained(study: Path, best: dict[int, float], checks: tuple[int, ...] = (3, 9, 10)) -> list[Record]:
    """The runs of a study with ten epochs each, and the best epoch of each seed."""
    train = tuple(
        TrainPoint(step=step, epoch=step, seconds=0, loss=1, learning_rate=1, grad_norm=1, tokens=1)
        for step in range(1, 11)
    )
    validation = tuple(ValidationPoint(step=step, epoch=step, seconds=0, loss=1) for step in checks)
    records = []
    for folder in run_dirs(study):
        record = folder.read_record()
        found = {"train": train, "validation": validation, "best_epoch": best[record.spec.seed]}
        records.append(record.model_copy(update={"curve": record.curve.model_copy(update=found)}))
    return records


def test_best_epoch(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    records = trained(study, {0: 3.0, 1: 9.0})
    claim = ClaimSpec(text="early", kind="best_early", methods=("lora",))
    verdict = decide(load_scores(load(study))[0])
    [both] = judge_claims([claim], records, verdict, None)
    assert both.outcome == "undecided"
    [first] = judge_claims([claim], [record for record in records if record.spec.seed == 0], verdict, None)
    assert first.outcome == "undecided"  # one seed
    [early] = judge_claims([claim], trained(study, {0: 3.0, 1: 4.0}), verdict, None)
    assert early.outcome == "in all seeds"


def test_a_training_validated_only_at_its_end_is_undecided(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    claim = ClaimSpec(text="early", kind="best_early", methods=("lora",))
    verdict = decide(load_scores(load(study))[0])
    [late] = judge_claims([claim], trained(study, {0: 9.0, 1: 9.0}), verdict, None)
    assert late.outcome == "in no seed"
    [blind] = judge_claims([claim], trained(study, {0: 10.0, 1: 10.0}, checks=(10,)), verdict, None)
    assert (blind.outcome, "no validation in the first half" in blind.why) == ("undecided", True)


def test_a_training_that_stopped_early_is_measured_against_its_plan(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    claim = ClaimSpec(text="early", kind="best_early", methods=("lora",))
    records = []
    for record in trained(study, {0: 9.0, 1: 9.0}, checks=(9,)):
        train = record.spec.train.model_copy(update={"epochs": 20.0})
        update = {
            "spec": record.spec.model_copy(update={"train": train}),
            "curve": record.curve.model_copy(update={"stopped_early": True}),
        }
        records.append(record.model_copy(update=update))
    [found] = judge_claims([claim], records, decide(load_scores(load(study))[0]), None)
    assert found.outcome == "in all seeds"  # epoch 9 of 20, although it stopped after 10


@pytest.mark.parametrize(
    ("effort", "outcome"),
    [
        ({"epochs": 100.0, "max_steps": 20}, "in all seeds"),  # step 9 of 20
        ({"epochs": 100.0, "max_steps": 12}, "in no seed"),  # step 9 of 12
        ({"epochs": 1.0, "min_steps": 20}, "in all seeds"),
        ({"epochs": 1.0, "min_steps": 20, "max_steps": 15}, "in no seed"),
    ],
)
def test_the_plan_of_a_training_counts_its_steps_too(tmp_path: Path, effort: dict[str, float], outcome: str) -> None:
    study = study_folder(tmp_path)
    records = [
        record.model_copy(
            update={
                "spec": record.spec.model_copy(update={"train": record.spec.train.model_copy(update=effort)}),
                "curve": record.curve.model_copy(update={"stopped_early": True}),
            }
        )
        for record in trained(study, {0: 9.0, 1: 9.0}, checks=(5, 9))
    ]
    claim = ClaimSpec(text="early", kind="best_early", methods=("lora",))
    [found] = judge_claims([claim], records, decide(load_scores(load(study))[0]), None)
    assert found.outcome == outcome, found.why


def test_an_order_is_undecided_while_planned_seeds_are_missing(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    records = load(study).records
    verdict = decide(load_scores(load(study))[0])
    claim = ClaimSpec(text="x", kind="cost_order", cost="train_seconds", methods=("lora", "zero_shot"))
    [done] = judge_claims([claim], records, verdict, None, seeds=2)  # zero-shot's only run counts for both
    assert (done.outcome, "means over 2 seeds" in done.why) == ("in all seeds", True)
    [early] = judge_claims([claim], records, verdict, None, seeds=3)
    assert (early.outcome, "2 of 3 planned seeds" in early.why) == ("undecided", True)


def test_an_interval_of_one_seed_is_about_the_trained_models(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    claim = ClaimSpec(text="x", kind="better", methods=("lora", "zero_shot"))

    def why() -> str:
        records = load(study).records
        [found] = judge_claims([claim], records, decide(load_scores(load(study))[0]), None)
        return found.why

    assert "one seed" not in why()
    for method in ("lora", "full"):
        (study / "runs" / f"starter-{method}-s1" / "record.json").unlink()
    assert why().endswith("one seed: holds for these trained models, not for the methods")


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"kind": "better", "methods": ("lora", "dora")}, "is about dora, which the study does not compare"),
        ({"kind": "better", "methods": ("lora", "full"), "fraction": 0.3}, "add it to fractions"),
        ({"kind": "cost_order", "methods": ("lora", "full"), "cost": "money"}, "choose one of train_seconds"),
    ],
)
def test_claims_about_unknown_methods_fractions_and_costs_are_rejected(claim: dict[str, object], words: str) -> None:
    spec = ClaimSpec.model_validate({"text": "a claim", **claim})
    with pytest.raises(UserError, match=words):
        check_claims([spec], ("lora", "full"), (1.0,), Path("study.toml"))


def test_a_claim_names_as_many_methods_as_it_compares() -> None:
    with pytest.raises(ValueError, match="names 1 methods"):
        ClaimSpec(text="x", kind="better", methods=("lora",))


def test_a_claim_about_a_cost_that_does_not_exist_is_undecided(tmp_path: Path) -> None:
    study = load(study_folder(tmp_path))
    claim = ClaimSpec(text="x", kind="cost_order", methods=("lora", "zero_shot"), cost="money")
    [found] = judge_claims([claim], study.records, decide(load_scores(study)[0]), None)
    assert (found.outcome, found.why) == ("undecided", "no cost is called money")
