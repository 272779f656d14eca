"""`tuneoff export`: flags, the default folder, and what it prints."""

import json
from pathlib import Path

import pytest

from support.stored_study import run_of, stored_study
from tuneoff.cli import main
from tuneoff.cli.exports import asked_for, default_folder
from tuneoff.errors import UserError
from tuneoff.export.wanted import Wanted


def test_flags_become_what_is_wanted() -> None:
    assert asked_for("GGUF", "Q8_0", {}) == Wanted("gguf", "q8_0")
    assert asked_for("ollama", None, {"aspect": "x"}) == Wanted("ollama", "f16", {"aspect": "x"})


@pytest.mark.parametrize(
    ("form", "numbers", "fields", "words"),
    [
        ("onnx", None, {}, "--to onnx: use adapter, merged, gguf, ollama"),
        ("gguf", "q4_k_m", {}, "--quantize q4_k_m: use f16, bf16, f32, q8_0"),
        ("merged", "f16", {}, "only for --to gguf and --to ollama"),
        ("gguf", None, {"aspect": "x"}, "--field: only for --to ollama"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    form: str, numbers: str | None, fields: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        asked_for(form, numbers, fields)


def test_the_command_exports_the_run_of_a_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = stored_study(tmp_path, monkeypatch)
    assert default_folder(run_of(study, "lora"), Wanted("gguf")) == Path("exports/study-lora-gguf")
    assert main(["export", "study", "--to", "merged", "--method", "lora", "--no-check", "--output", "out"]) == 0
    assert capsys.readouterr().out == "out\nNot checked: it was not asked for.\n"
    assert main(["export", "study", "--to", "gguf", "--method", "lora", "--no-check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["numbers"] == "f16"
    assert (Path("exports") / "study-lora-gguf" / "study-lora-gguf-f16.gguf").is_file()
    assert main(["export", "study", "--to", "gguf", "--method", "soft_prompt"]) == 2
    assert "use --to adapter" in capsys.readouterr().err


def test_a_default_folder_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored_study(tmp_path, monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    Path("exports").symlink_to(tmp_path / "elsewhere")
    assert main(["export", "study", "--to", "adapter", "--method", "lora", "--no-check"]) == 2
    assert "exports: a link to" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
