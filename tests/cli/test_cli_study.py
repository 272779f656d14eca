"""A study on the terminal: flags that are not part of it, and what is checked before anything starts."""

from pathlib import Path

import pytest

from tuneoff.cli.study import StudyFlags, plan_study, run_study
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study.runner import Limits


def test_flags_become_limits() -> None:
    assert StudyFlags().limits() == Limits(None, "examples", 1)
    assert StudyFlags(budget="1h30m", equal="time", workers="auto").limits() == Limits(5400.0, "time", None)
    assert StudyFlags(workers="3", report_to=("none",)).limits().workers == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (StudyFlags(budget="soon"), "--budget soon"),
        (StudyFlags(equal="money"), "--equal money: examples or time"),
        (StudyFlags(workers="many"), "--workers many"),
        (StudyFlags(workers="-1"), "--workers -1"),
    ],
)
def test_impossible_flags_are_refused(flags: StudyFlags, message: str) -> None:
    with pytest.raises(UserError, match=message):
        flags.limits()


@pytest.fixture
def spec(tiny_model, tiny_data: dict[str, Path]) -> StudySpec:
    return StudySpec(
        models=(ModelSpec(name=str(tiny_model("gpt_neo"))),),
        methods=("zero_shot", "lora"),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        prompt=PromptSpec(max_length=128),
    )


def test_planning_writes_nothing_into_the_folder(
    spec: StudySpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = plan_study(spec, tmp_path / "study", StudyFlags(quiet=True))
    assert len(prepared.missing) == 2
    assert not (tmp_path / "study").exists()
    assert capsys.readouterr() == ("", "")


def test_an_unknown_tracker_is_refused_before_anything_is_prepared(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneoff.cli.study.prepare", lambda *_, **__: pytest.fail("prepared"))
    with pytest.raises(UserError, match="did you mean wandb"):
        run_study(spec, tmp_path / "study", StudyFlags(report_to=("wanbd",)))
