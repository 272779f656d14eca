"""Exports as a whole: the other program, without tuneoff, writes the texts that the study has."""

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.stored_study import run_of, stored_study
from tuneoff import checked_export
from tuneoff.checked_export import CARD, EXPORT_FILE, export_run
from tuneoff.errors import UserError
from tuneoff.export.card_runner import CardFailed
from tuneoff.export.wanted import Form, Wanted
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StudyDir


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stored_study(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("lora", "adapter"),
        pytest.param("soft_prompt", "adapter", marks=pytest.mark.slow),
        pytest.param("full", "merged", marks=pytest.mark.slow),
    ],
)
def test_the_code_of_the_card_writes_the_texts_of_the_study_without_tuneoff(
    method: str, form: Form, study: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exports" / "one"
    done = export_run(run_of(study, method), Wanted(form), folder)
    assert done.unchecked is None
    assert done.check is not None
    assert (done.check.metric, done.check.documents) == ("rouge1", 12)
    assert done.check.same_texts >= 11
    assert abs(done.check.loss) < 3
    assert done.sentence.startswith("Checked: it ")
    card = (folder / CARD).read_text(encoding="utf-8")
    assert done.sentence in card
    assert json.loads((folder / EXPORT_FILE).read_text())["check"]["same_texts"] == done.check.same_texts
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def shown(module: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[str]:
    """The code that a check runs; `answer` stands in for the other program."""
    codes: list[str] = []

    def texts(code: str, documents: Any) -> Any:
        codes.append(code)
        return answer(list(documents))

    monkeypatch.setattr("tuneoff.export.export_check.texts_of_card", texts)
    return codes


def test_what_is_checked_is_the_code_on_the_card(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = shown(checked_export, monkeypatch, lambda documents: ["text"] * len(documents))
    folder = tmp_path / "out"
    export_run(run_of(study, "lora"), Wanted("merged"), folder, documents=3)
    [on_card] = re.findall(r"^```python\n(.*?)^```$", (folder / CARD).read_text(), re.MULTILINE | re.DOTALL)
    assert codes == [on_card.replace('FOLDER = "."', f"FOLDER = {str(folder)!r}")]


def test_without_a_check_the_card_says_why(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(study, "lora")
    done = export_run(run, Wanted("gguf"), tmp_path / "a", documents=0)
    assert done.sentence == "Not checked: it was not asked for."
    assert done.sentence in (tmp_path / "a" / CARD).read_text()
    monkeypatch.setattr(checked_export, "find_spec", lambda name: None)
    done = export_run(run, Wanted("gguf", "q8_0"), tmp_path / "b")
    assert done.sentence == (
        "Not checked: llama-cpp-python is not installed (pip install 'tuneoff[gguf-check]', then export again)."
    )
    assert done.numbers == "q8_0"
    (study / "documents.jsonl").rename(study / "elsewhere")
    StudyDir(study).covered.update({}, ("documents.jsonl",))
    done = export_run(run, Wanted("merged"), tmp_path / "c")
    assert "not in a study folder with test documents" in str(done.unchecked)


def test_a_program_that_fails_is_named(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(documents: Any) -> Any:
        raise CardFailed("OSError: no such model")

    shown(checked_export, monkeypatch, fail)
    done = export_run(run_of(study, "full"), Wanted("merged"), tmp_path / "out")
    assert re.fullmatch(r"transformers [\d.]+ failed \(OSError: no such model\)", str(done.unchecked))


def test_a_folder_that_is_not_empty_is_left_as_it_is(study: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already; name another folder"):
        export_run(run_of(study, "lora"), Wanted("merged"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_empty_folder_is_filled_also_behind_a_link(study: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    export_run(run_of(study, "lora"), Wanted("adapter"), tmp_path / "link", documents=0)
    assert (tmp_path / "empty" / "adapter_model.safetensors").exists()
    assert not list(tmp_path.rglob(".tuneoff-*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_file_that_is_no_export_is_not_read(study: Path, tmp_path: Path) -> None:
    file = tmp_path / EXPORT_FILE
    for make in (lambda: os.mkfifo(file), lambda: os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 10**12)):
        make()
        with pytest.raises(UserError, match="exists already"):
            export_run(run_of(study, "lora"), Wanted("adapter"), tmp_path)
        file.unlink()


def test_the_same_command_again_after_an_export_without_a_check(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(documents: Any) -> Any:
        raise KeyboardInterrupt

    run, folder = run_of(study, "lora"), tmp_path / "out"
    shown(checked_export, monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        export_run(run, Wanted("adapter"), folder, documents=3)
    assert "Not checked: the check was interrupted." in (folder / CARD).read_text()
    (folder / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already"):  # another export
        export_run(run_of(study, "soft_prompt"), Wanted("adapter"), folder)
    shown(checked_export, monkeypatch, lambda documents: ["text"] * len(documents))
    done = export_run(run, Wanted("adapter"), folder, documents=3)
    assert done.check is not None
    assert done.sentence in (folder / CARD).read_text()
    assert (folder / "mine").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(UserError, match="exists already"):  # it is checked now
        export_run(run, Wanted("adapter"), folder)


def test_nothing_is_left_of_an_export_that_fails(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_named: Any) -> None:
        raise UserError("no")

    monkeypatch.setattr("tuneoff.export.export_files.write_gguf", fail)
    with pytest.raises(UserError, match="no"):
        export_run(run_of(study, "lora"), Wanted("gguf"), tmp_path / "exports" / "out")
    assert list((tmp_path / "exports").iterdir()) == []


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize(("form", "least"), [("gguf", 11), ("ollama", 0)])
def test_llama_cpp_writes_the_texts_of_the_study(form: Form, least: int, study: Path, tmp_path: Path) -> None:
    done = export_run(run_of(study, "lora"), Wanted(form, "f32"), tmp_path / "out")
    assert done.check is not None, done.unchecked
    assert done.check.same_texts >= least


def test_an_export_into_the_study_goes_through_no_link_of_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, elsewhere = run_of(study, "lora"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    (study / "exports").mkdir()
    (study / "exports" / "linked").symlink_to(elsewhere)
    for place in (study / "exports" / "linked", study / "exports" / "linked" / "deep"):
        with pytest.raises(UserError, match=r"exports/linked: a link in the study's folder, to .*elsewhere; name that"):
            export_run(run, Wanted("adapter"), place, documents=0)
    # What lies in a study may say that it is an interrupted export; it came with the study.
    told = study / "exports" / "told"
    told.mkdir()
    content = {"run": run.name, "method": "lora", "form": "adapter", "numbers": "float32", "check": None}
    (told / EXPORT_FILE).write_text(json.dumps(content | {"unchecked": "x"}))
    with pytest.raises(UserError, match="exists already; name another folder"):
        export_run(run, Wanted("adapter"), told, documents=0)
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_an_export_that_is_written_again_goes_through_no_link(study: Path, tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    export_run(run_of(study, "lora"), Wanted("adapter"), folder, documents=0)
    before = (folder / EXPORT_FILE).read_text()
    config = study.parent / "model" / "tokenizer_config.json"
    templates = [{"name": name, "template": "{{ messages[0].content }}"} for name in ("default", "rag")]
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": templates}))
    (folder / "additional_chat_templates").symlink_to(elsewhere)
    run = run_of(study, "lora")
    provenance = run.record.provenance.model_copy(update={"model": None})  # the model was changed
    changed = StoredRun(run.dir, run.record.model_copy(update={"provenance": provenance}))
    with pytest.raises(UserError, match="additional_chat_templates: a link"):
        export_run(changed, Wanted("adapter"), folder, documents=0)
    assert not list(elsewhere.iterdir())
    assert (folder / EXPORT_FILE).read_text() == before
