"""Claims: three outcomes, read off the same intervals as the verdict."""

from pathlib import Path

import pytest
from verdict_study import study_folder

from tuneoff.errors import UserError
from tuneoff.record import TrainPoint, read_record, run_folders
from tuneoff.spec.study import ClaimSpec
from tuneoff.verdict.claims import check_claims, judge_claims
from tuneoff.verdict.decide import decide
from tuneoff.verdict.load import load_scores


def judged(study: Path, **claim: object) -> str:
    records = [read_record(folder) for folder in run_folders(study)]
    spec = ClaimSpec.model_validate({"text": "a claim", **claim})
    [found] = judge_claims([spec], records, decide(load_scores(study)[0]), None)
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


def test_a_share_without_runs_decides_nothing(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    assert judged(study, kind="better", methods=["lora", "zero_shot"], fraction=0.1) == "undecided"
    assert judged(study, kind="cost_order", cost="train_seconds", methods=["lora", "full"], fraction=0.1) == "undecided"


def test_costs_need_every_seed(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    order = {"kind": "cost_order", "cost": "train_seconds", "methods": ["lora", "zero_shot"]}
    # Zero-shot has seed 0 alone, so that is the seed they share: 10 s against none.
    assert judged(study, **order) == "supported"
    assert judged(study, **(order | {"methods": ["zero_shot", "lora"]})) == "contradicted"
    assert judged(study, **(order | {"methods": ["lora", "full"]})) == "contradicted"  # alike is not larger


def test_best_epoch(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    records = []
    for folder in run_folders(study):
        record = read_record(folder)
        points = tuple(
            TrainPoint(step=step, epoch=step, seconds=0, loss=1, learning_rate=1, grad_norm=1, tokens=1)
            for step in range(1, 11)
        )
        best = 3.0 if record.spec.seed == 0 else 9.0
        records.append(
            record.model_copy(update={"curve": record.curve.model_copy(update={"train": points, "best_epoch": best})})
        )
    claim = ClaimSpec(text="early", kind="best_early", methods=("lora",))
    verdict = decide(load_scores(study)[0])
    [both] = judge_claims([claim], records, verdict, None)
    assert both.outcome == "undecided"
    [first] = judge_claims([claim], [record for record in records if record.spec.seed == 0], verdict, None)
    assert first.outcome == "supported"


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"kind": "better", "methods": ("lora", "dora")}, "is about dora, which the study does not compare"),
        ({"kind": "better", "methods": ("lora", "full"), "fraction": 0.3}, "add it to fractions"),
        ({"kind": "cost_order", "methods": ("lora", "full"), "cost": "money"}, "there are train_seconds"),
    ],
)
def test_claims_about_what_is_not_there_are_refused(claim: dict[str, object], words: str) -> None:
    spec = ClaimSpec.model_validate({"text": "a claim", **claim})
    with pytest.raises(UserError, match=words):
        check_claims([spec], ("lora", "full"), (1.0,), Path("study.toml"))


def test_a_claim_names_as_many_methods_as_it_compares() -> None:
    with pytest.raises(ValueError, match="names 1 methods"):
        ClaimSpec(text="x", kind="better", methods=("lora",))
