"""Flags: one spelling for many, clear words for the wrong ones, help for each command."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tuneoff.cli import main
from tuneoff.cli.flags import ALIASES, STUDY_FLAGS, normalized, overrides_of
from tuneoff.cli.foreign_flags import INSTEAD, WITHOUT_EFFECT
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, ScoreSpec, StudySpec, TrainSpec

COMMANDS = ("compare", "train", "summarize", "report", "methods", "doctor")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("flag", STUDY_FLAGS, ids=lambda flag: flag.name)
def test_every_flag_leads_to_a_field_of_the_study(flag) -> None:
    sections = {
        "data": DataSpec,
        "generate": GenerateSpec,
        "prompt": PromptSpec,
        "score": ScoreSpec,
        "train": TrainSpec,
    }
    kind: Any = ModelSpec if flag.path[:2] == ("models", "*") else sections.get(flag.path[0], StudySpec)
    assert flag.path[-1] in kind.model_fields


@pytest.mark.parametrize("flag", STUDY_FLAGS, ids=lambda flag: flag.name)
def test_help_shows_the_default_of_the_study(flag) -> None:
    found: Any = StudySpec(data=DataSpec(source="starter"))
    for key in flag.path:
        found = found[0] if key == "*" else getattr(found, key)
    if flag.name == "--model":
        found = [model.name for model in found]
    values = list(found) if isinstance(found, list | tuple) else [found]
    shown = ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    nothing = found is None or found is False or flag.path == ("data", "source")
    assert flag.default == (None if nothing else shown)


def test_no_two_flags_share_a_name_or_a_field() -> None:
    names = [name for flag in STUDY_FLAGS for name in (flag.name, *flag.also)]
    assert len(set(names)) == len(names)
    assert len({flag.path for flag in STUDY_FLAGS}) == len(STUDY_FLAGS)
    assert not {*INSTEAD, *WITHOUT_EFFECT} & set(names)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("num_train_epochs", "epochs"),
        ("model_name_or_path", "model"),
        ("per-device-train-batch-size", "batch-size"),
        ("text_column", "document-column"),
        ("warmup_steps", "warmup"),
        ("max_new_tokens", "max-new-tokens"),
        ("output_dir", "output"),
    ],
)
def test_other_names(typed: str, meant: str) -> None:
    assert normalized(typed) == meant


def test_aliases_lead_to_flags() -> None:
    known = {flag.name.removeprefix("--") for flag in STUDY_FLAGS} | {"output", "learning-rate"}
    assert set(ALIASES.values()) <= known


def test_only_what_was_typed_overrides() -> None:
    values = {flag.parameter: None for flag in STUDY_FLAGS} | {"epochs": 2.0, "halving": False, "model": []}
    assert overrides_of(values) == [(("halving",), False, "--halving"), (("train", "epochs"), 2.0, "--epochs")]


def test_a_switch_of_a_study_file_can_be_switched_off(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.toml"
    study.write_text('methods = ["zero_shot", "lora"]\nuntil_settled = true\n')
    command = ["compare", str(study), *tiny, "--dry-run", "--json", f"--output={tmp_path / 'out'}"]
    for typed, looks in (
        ([], [3, 4, 5, 6]),
        (["--until-settled", "false"], []),
        (["--no-until-settled"], []),
        (["--until-settled=True"], [3, 4, 5, 6]),
    ):
        assert main([*command, *typed]) == 0
        assert json.loads(capsys.readouterr().out)["looks"] == looks


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"tuneoff {command}" in out
    assert not err


def test_help_of_compare_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-h"]) == 0
    out = capsys.readouterr().out
    for flag in STUDY_FLAGS:
        assert flag.name in out
    assert "--num_train_epochs" in out
    assert "--learning-rate" not in out


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tuneoff 0.")


@pytest.mark.parametrize(
    ("typed", "value"), [("0.2", 0.2), ("50", 50), ("20%", 0.2), ("1", 1), (" 5 ", 5), (".5", 0.5)]
)
def test_sizes_of_splits_are_fractions_or_numbers_of_documents(typed: str, value: float) -> None:
    [(path, size, _)] = overrides_of({"test_share": typed})
    assert path == ("data", "test_share")
    assert (size, type(size)) == (value, type(value))


@pytest.mark.parametrize("typed", ["0", "1.5", "1.0", "-1", "many", "nan", "inf", "20 % of", "", "120%"])
def test_impossible_sizes_of_splits(typed: str) -> None:
    with pytest.raises(UserError, match=r"--validation-share .*: a fraction such as 0.2"):
        overrides_of({"validation_share": typed})


def test_one_file_is_a_name_and_several_are_a_tuple() -> None:
    assert overrides_of({"train_file": ["a"]}) == [(("data", "train_file"), "a", "--train-file")]
    assert overrides_of({"test_file": ["a", "b"]}) == [(("data", "test_file"), ("a", "b"), "--test-file")]


def test_standard_input_is_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"document": "a"}\n')))
    [(_, files, flag)] = overrides_of({"train_file": ["a.jsonl", "-"]})
    assert (files[0], flag) == ("a.jsonl", "--train-file")
    assert Path(files[1]).parent == tmp_path / "rows"
    assert Path(files[1]).read_text() == '{"document": "a"}\n'
    with pytest.raises(UserError, match="--train-file - and --test-file -: standard input can be read once"):
        overrides_of({"train_file": ["-"], "test_file": ["-"]})
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="--test-file -: standard input is closed"):
        overrides_of({"test_file": ["-"]})


def test_control_codes_of_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", str(tmp_path / "a\x1b[31m\nb.toml")]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert err.count("\n") == 1
