"""Plans, as text for people and as data for programs."""

import json
from pathlib import Path

import pytest

from support.planned import record_of
from tuneoff.cli import main
from tuneoff.cli.plans import plan_as_json, plan_as_text, sensitivity_sentence
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study.compatibility import plan_file
from tuneoff.study.runner import prepare


def test_a_plan_says_what_the_study_will_see(
    tiny: list[str], tiny_data: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--{split}-file={path}" for split, path in tiny_data.items()]
    twelve = [*(flag for flag in tiny if flag not in files), f"--train-file={tiny_data['train']}", "--test-share=0.5"]
    seen = []
    for seeds in (2, 3):
        assert main(["compare", *twelve, f"--seeds={seeds}", "--dry-run", "--json"]) == 0
        seen.append(json.loads(capsys.readouterr().out)["sees"]["smallest_difference"])
    assert seen[0] > seen[1] > 1
    assert main(["compare", *twelve, "--seeds=3", "--dry-run"]) == 0
    assert (
        f"with 3 seeds and 12 test documents, differences of about {seen[1]:.1f} points of ROUGE-1"
        in capsys.readouterr().out
    )
    assert main(["compare", *twelve, "--margin=2", "--dry-run"]) == 0
    assert "a difference of at most 2 points of ROUGE-1 does not matter" in capsys.readouterr().out
    assert main(["train", "lora", *twelve, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sees"] is None  # one method: nothing to tell apart


def test_a_plan_says_when_results_are_looked_at(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *tiny, "--until-settled", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "; at most 6 seeds" in text
    assert "looks   after 3, 4, 5 and 6 seeds; a method that is shown to lose more than 0.5 points gets no" in text
    assert "lora-s2" in text
    assert "lora-s3" not in text
    assert main(["compare", *tiny, "--until-settled", "--seeds=4", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["looks"] == [3, 4]
    assert main(["compare", *tiny, "--until-settled", "--methods=lora", "--dry-run"]) == 2
    assert "--until-settled: with one method there is nothing to settle" in capsys.readouterr().err


def test_a_plan_with_few_test_documents_promises_no_difference(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *tiny, "--seeds=3", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["sees"] is None
    assert plan["data"]["cautions"][0].startswith("only 8 test documents: with fewer than 10 no difference")
    assert plan["data"]["caution"] is None
    assert plan["data"]["columns"]["train"]["summary"] == ["summary"]
    assert main(["compare", *tiny, "--seeds=3", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "        CAUTION: only 8 test documents" in text
    assert "are detected" not in text


def test_a_share_of_the_data_does_not_train_longer_than_all_of_it(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "compare",
                *(flag for flag in tiny if not flag.startswith("--max-steps=")),
                "--methods=lora",
                "--fractions=0.5,1",
                "--epochs=2",
                "--max-steps=40",
                "--dry-run",
                "--json",
            ]
        )
        == 0
    )
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 2
    assert len({run["steps"] for run in runs}) == 1
    assert runs[0]["steps"] < 50  # the floor, which would be more than all the data gets


def test_dry_run_as_json(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "lora", *tiny, "--lora_alpha", "8", "--learning_rate=0.5", "--dry_run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    [run] = plan["runs"]
    assert plan["data"]["counts"] == {"train": 24, "validation": 8, "test": 8}
    assert (run["done"], run["steps"]) == (False, 2)
    values = run["spec"]["method"]["hyperparameters"]
    assert (values["lora_alpha"], values["learning_rate"]) == (8, 0.5)


@pytest.fixture
def spec(tiny_model, tiny_data: dict[str, Path]) -> StudySpec:
    return StudySpec(
        models=(ModelSpec(name=str(tiny_model("gpt_neo"))),),
        methods=("zero_shot", "lora"),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        prompt=PromptSpec(max_length=128),
    )


def test_runs_that_are_done_are_marked(spec: StudySpec, tmp_path: Path) -> None:
    prepared = prepare(spec, tmp_path / "study")
    assert [run["done"] for run in plan_as_json(prepared)["runs"]] == [False, False]
    first, _ = prepared.plan.runs
    prepared.dir.write_spec(prepared.spec)
    prepared.dir.write_plan(plan_file(prepared.inputs.hashes, tuple(run.folder for run in prepared.plan.runs)))
    prepared.dir.run_dir(first.folder).write_record(record_of(first))
    again = prepare(spec, tmp_path / "study")
    assert [run["done"] for run in plan_as_json(again)["runs"]] == [True, False]
    lines = [line for line in plan_as_text(again).splitlines() if line.startswith("run ")]
    assert ["done" in line for line in lines] == ["to do" not in line for line in lines] == [True, False]


def test_trials_are_announced_with_the_total(spec: StudySpec, tmp_path: Path) -> None:
    prepared = prepare(spec.model_copy(update={"trials": 2}), tmp_path / "study")
    text = plan_as_text(prepared)
    assert f"{prepared.total} runs in all" in text
    assert prepared.total > len(prepared.plan.runs)
    assert sensitivity_sentence(prepared) is None  # eight test documents
