"""The files of exports: safetensors and GGUF, never a pickle, under names that are safe."""

import json
import os
from pathlib import Path

import pytest
import torch

from support.stored_study import run_of, stored_study
from tuneoff import regular_files
from tuneoff.errors import UserError
from tuneoff.export.export_files import ExportCode, copy_own_file, write_files
from tuneoff.export.wanted import Form, Wanted
from tuneoff.model_folder import read_header
from tuneoff.run import restore_run


def files_of(
    method: str, form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "export"
) -> tuple[ExportCode, dict[str, int]]:
    run = run_of(stored_study(tmp_path, monkeypatch), method)
    restored = restore_run(run, torch.device("cpu"), torch.float32)
    folder = tmp_path / "out"
    folder.mkdir()
    wanted = Wanted(form)
    code = write_files(run, restored.adapted, restored.base, restored.prompter, wanted, name, folder)
    return code, {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("method", "form", "weights"),
    [
        ("lora", "adapter", "adapter_model.safetensors"),
        ("soft_prompt", "adapter", "adapter_model.safetensors"),
        ("full", "merged", "model.safetensors"),
        ("lora", "merged", "model.safetensors"),
    ],
)
def test_weights_are_safetensors_beside_the_tokenizer(
    method: str, form: Form, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, files = files_of(method, form, tmp_path, monkeypatch)
    assert {weights, "tokenizer.json"} <= set(files)
    assert {Path(name).suffix for name in files} <= {".safetensors", ".json", ".jinja"}
    assert code.card == code.check


def test_a_modelfile_names_the_gguf_file_by_safe_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, files = files_of("lora", "ollama", tmp_path, monkeypatch, name='my "study"\n../x')
    assert set(files) == {"my-study-..-x-f16.gguf", "Modelfile"}
    assert "FROM ./my-study-..-x-f16.gguf\n" in (tmp_path / "out" / "Modelfile").read_text()
    assert code.card != code.check


@pytest.mark.parametrize("method", ["soft_prompt", "lora"])
def test_settings_of_virtual_tokens_are_those_of_the_tensor(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT would make room for as many as a stranger's settings say."""
    run = run_of(stored_study(tmp_path, monkeypatch), method)
    settings = run.dir.artefact / "adapter_config.json"
    before = json.loads(settings.read_text())
    asked = {"num_virtual_tokens": 40_000_000, "token_dim": 10**9} if method == "soft_prompt" else {}
    settings.write_text(json.dumps(before | asked))
    restored = restore_run(run, torch.device("cpu"), torch.float32)
    (tmp_path / "out").mkdir()
    write_files(
        *(run, restored.adapted, restored.base, restored.prompter, Wanted("adapter"), "export", tmp_path / "out")
    )
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    for key in ("peft_type", "num_virtual_tokens", "token_dim", "num_layers", "r", "base_model_name_or_path"):
        assert written.get(key) == before.get(key)
    weights = "adapter_model.safetensors"
    assert read_header(tmp_path / "out" / weights) == read_header(run.dir.artefact / weights)


def test_a_file_is_copied_if_it_is_one_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, target = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    (run / "own").write_text("x")
    copy_own_file(run, run / "own", target)
    assert target.read_text() == "x"
    target.unlink()
    (tmp_path / "secret").write_text("SECRET")
    (run / "linked").symlink_to(tmp_path / "secret")
    (run / "zeros").symlink_to("/dev/zero")
    os.mkfifo(run / "pipe")
    for name in ("linked", "zeros", "pipe"):
        with pytest.raises(UserError):
            copy_own_file(run, run / name, target)
        assert not target.exists()
    monkeypatch.setattr(regular_files, "SMALL_BYTES", 1000)
    os.truncate(run / "own", 10**6)
    with pytest.raises(UserError, match="ever written"):
        copy_own_file(run, run / "own", target)
