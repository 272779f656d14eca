"""The files of exports: safetensors and GGUF, never a pickle, under names that are safe."""

from pathlib import Path

import pytest
import torch

from support.stored_study import run_of, stored_study
from tuneoff.export.export_files import ExportCode, write_files
from tuneoff.export.wanted import Form, Wanted
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
