"""A study judged as a whole: verdict, amounts of data and claims, all from its records."""

import json
import shutil
from pathlib import Path

import pytest

from support.verdict_study import study_folder
from tuneoff.cli import main
from tuneoff.errors import UserError
from tuneoff.results.run_record import TrainPoint, read_record, write_record
from tuneoff.verdict.judge import judge_study
from tuneoff.verdict.summarize import summarize


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """LoRA 12 points over zero-shot, on all the data and on a tenth; one claim about each."""
    made = study_folder(tmp_path)
    for folder in list((made / "runs").iterdir()):
        if "zero_shot" not in folder.name:
            copy = folder.with_name(f"{folder.name}-tenth")
            shutil.copytree(folder, copy)
            record = read_record(copy)
            write_record(copy, record.model_copy(update={"spec": record.spec.model_copy(update={"fraction": 0.1})}))
    claims = [
        {"text": "on all", "kind": "better", "methods": ["lora", "zero_shot"]},
        {"text": "on a tenth", "kind": "better", "methods": ["zero_shot", "lora"], "fraction": 0.1},
        {"text": "much better", "kind": "at_least", "methods": ["zero_shot", "lora"]},
    ]
    plan = {"methods": ["zero_shot", "lora", "full"], "seeds": 2, "claims": claims}
    (made / "study.json").write_text(json.dumps(plan))
    (made / "data.json").write_text(json.dumps({"counts": {"train": 1000}}))
    return made


def test_amounts_of_data_and_claims_are_judged_with_the_verdict(study: Path) -> None:
    [whole] = judge_study(study)
    assert whole.sizes is not None
    assert {point.examples for point in whole.sizes.crossovers[0].band} == {100, 1000}
    assert [claim.outcome for claim in whole.claims] == ["supported", "contradicted", "contradicted"]
    [wide] = judge_study(study, margin=50)  # another margin, another answer
    assert [claim.outcome for claim in wide.claims] == ["supported", "contradicted", "supported"]


def test_judge_shows_them(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(study), "--margin", "50"]) == 0
    shown = capsys.readouterr().out
    assert "Claim, supported: much better" in shown
    assert "Amounts of data: " in shown
    assert main(["judge", str(study), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert [claim["outcome"] for claim in row["claims"]] == ["supported", "contradicted", "contradicted"]
    assert row["data_sizes"]["crossovers"]


def test_a_damaged_count_is_named(study: Path) -> None:
    (study / "data.json").write_text("{")
    with pytest.raises(UserError, match=r"data\.json"):
        judge_study(study)


def test_the_summary_examines_shares_of_the_data_too(study: Path) -> None:
    folder = study / "runs" / "starter-lora-s0-tenth"
    record = read_record(folder)
    points = (TrainPoint(step=1, epoch=1, seconds=0, loss=1, learning_rate=1, grad_norm=0, tokens=1),)
    curve = record.curve.model_copy(update={"train": points})
    write_record(folder, record.model_copy(update={"name": "lora-f0.1-s0", "curve": curve}))
    found = summarize(study)
    assert [(one["check"], one["where"]) for one in found["health"]] == [("no training", "lora-f0.1-s0")]
    assert [claim["outcome"] for claim in found["claims"]] == ["supported", "contradicted", "contradicted"]
    assert len(found["data_sizes"]) == 1
