"""The coursework's four programs: the settings they keep, and one of them from end to end."""

import ast
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.study_folders import planned_run_folders, read_record
from tuneoff.cli import coursework
from tuneoff.methods import METHODS
from tuneoff.spec.toml import read_toml

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAMS = {"baseline": "zero_shot", "soft_prompt_tuning": "soft_prompt", "lora": "lora", "full_fine_tuning": "full"}
STARTER = ["--model", "starter", "--data", "starter"]
ONE_DOCUMENT = ["--repeated-documents", "references"]


@pytest.mark.parametrize(("program", "method"), PROGRAMS.items())
def test_each_program_is_its_method(program: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def record(name: str) -> int:
        called.append(name)
        return 0

    monkeypatch.setattr(coursework, "run_program", record)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{program}.py"), run_name="__main__")
    assert (called, ended.value.code) == ([method], 0)


def test_every_method_of_the_coursework_has_a_program_and_a_note() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(PROGRAMS)
    assert set(PROGRAMS.values()) == set(coursework.KNOWN) <= set(METHODS)


def test_help_of_a_program() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "lora.py", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--batch-size" in done.stdout
    assert done.stdout.startswith("lora.py: `tuneoff train lora` with the coursework's settings")
    settings = done.stdout.partition("defaults below:")[2].partition("It takes")[0].split()
    study = read_toml(preset="coursework").spec
    assert dict(zip(settings[::2], settings[1::2], strict=True)) == {
        "--model_name": study.models[0].name,
        "--data": study.data.source,
        "--initial_prompt": study.prompt.instruction,
        "--batch_size": str(study.train.batch_size),
        "--epochs": f"{study.train.epochs:g}",
        "--learning_rate": f"{study.hyperparameters['lora']['learning_rate']:g}".replace("e-0", "e-"),
        "--max_length": str(study.prompt.max_length),
    }
    assert not done.stderr


def test_help_whose_reader_has_left_ends_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, SCRIPTS / "lora.py", "--help"], stdout=nobody, stderr=subprocess.PIPE, text=True,
            check=False, timeout=60,
        )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 1)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--preset", "starter", "--epochs", "1"], [*STARTER, "--epochs", "1", *ONE_DOCUMENT]),
        (["--epochs=1", "--preset=starter"], ["--epochs=1", *STARTER, *ONE_DOCUMENT]),
        (
            ["--preset=starter", "--repeated_documents=examples"],
            [*STARTER, "--repeated_documents=examples"],
        ),
        (["--model_name", "starter"], ["--model_name", "starter"]),
    ],
)
def test_the_starter_keeps_the_other_settings(typed: list[str], meant: list[str]) -> None:
    assert coursework.with_starter(typed) == meant


LINE = "--initial_prompt SUMMARY: --batch_size 8 --epochs 10 --learning_rate 5e-5 --max_length 128"


@pytest.mark.parametrize("method", PROGRAMS.values())
def test_every_program_takes_the_one_command_line(
    method: str, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny[0].partition("=")[2]
    files = [flag for flag in tiny if "-file=" in flag]
    line = ["--model_name", model, *LINE.split(), *files, "--max_new_tokens=8", "--dry_run", "--json"]
    assert coursework.run_program(method, line) == 0
    out, err = capsys.readouterr()
    [run] = json.loads(out)["runs"]
    spec = run["spec"]
    values = spec["method"]["hyperparameters"]
    soft = method == "soft_prompt"
    assert spec["prompt"]["instruction"] == ("SUMMARIZE" if soft else "SUMMARY:")
    assert values.get("initial_prompt") == ("SUMMARY:" if soft else None)
    assert (spec["prompt"]["max_length"], spec["model"]["name"]) == (128, model)
    idle = "these have no effect: --batch_size, --epochs, --learning_rate"
    if method == "zero_shot":
        assert idle in err
        assert err.count("\n") == 2  # with the note on the coursework's settings
    else:
        assert (spec["train"]["epochs"], spec["train"]["batch_size"], values["learning_rate"]) == (10, 8, 5e-5)
        assert "these change nothing" not in err


@pytest.mark.parametrize(
    ("flags", "modules"),
    [
        ([], ["c_attn"]),
        (["--output=targets"], ["c_attn"]),
        (["--lora_target_modules=c_proj"], ["c_proj"]),
        (["--set", "target_modules=c_proj"], ["c_proj"]),
    ],
)
def test_lora_on_another_architecture(
    flags: list[str],
    modules: list[str],
    tiny: list[str],
    tiny_model: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [flag for flag in tiny if "-file=" in flag]
    line = ["--model_name", str(tiny_model("gpt2")), *LINE.split(), *files, *flags, "--dry_run", "--json"]
    assert coursework.run_program("lora", line) == 0
    out, err = capsys.readouterr()
    [run] = json.loads(out)["runs"]
    assert run["spec"]["method"]["hyperparameters"]["target_modules"] == modules
    assert ("LoRA adapts c_attn, PEFT's choice for gpt2" in err) == (modules == ["c_attn"])


def test_with_json_the_last_line_is_the_summary(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert coursework.run_program("zero_shot", [*tiny, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["rows"]
    assert "ROUGE Scores: {'rouge1':" in err


def test_what_the_baseline_does_not_need_is_a_number_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for typed in (["--learning_rate=fast"], ["--learning_rate"], ["--epochs", "many"]):
        assert coursework.run_program("zero_shot", typed) == 2
        assert typed[0].partition("=")[0] in capsys.readouterr().err.splitlines()[-1]


def test_an_instruction_by_two_names_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert coursework.run_program("lora", ["--initial_prompt", "SUM", "--instruction=Say it."]) == 2
    assert "give it or --instruction, not both" in capsys.readouterr().err


def test_wrong_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert coursework.run_program("lora", ["--learning_rat", "1"]) == 2
    assert "did you mean --learning-rate?" in capsys.readouterr().err


def test_a_program_from_end_to_end(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    small = [flag.replace("--model=", "--model_name=").replace("-file=", "_file=") for flag in tiny]
    assert coursework.run_program("lora", [*small, "--batch_size", "4", "--lora_dropout=0", "--output_dir", "out"]) == 0
    out, err = capsys.readouterr()
    name, scores = out.splitlines()[-1].split(": ", 1)
    assert name == "ROUGE Scores"
    values = ast.literal_eval(scores)
    assert list(values) == ["rouge1", "rouge2", "rougeL"]
    [run] = planned_run_folders(Path("out"))
    record = read_record(run)
    score = record.scores["rouge1"]
    assert score is not None
    assert values["rouge1"] == score / 100
    assert all(0 <= value <= 1 for value in values.values())
    spec = record.spec
    assert (spec.prompt.template, spec.prompt.instruction, spec.train.batch_size) == ("plain", "SUMMARIZE", 4)
    lora = spec.method.hyperparameters
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"], lora["learning_rate"]) == (16, 32, 0.0, 5e-5)
    assert lora["target_modules"] == ("q_proj", "v_proj")
    assert {path.name for path in (run / "figures").glob("*.png")} == {"loss.png", "resources.png"}
    assert (run / "artefact" / "adapter_model.safetensors").exists()
    assert "learning rate 5e-5" in err
