"""What is sent to the Hub, and what is not: against a hub of the tests."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from huggingface_hub import constants
from huggingface_hub.utils._validators import validate_repo_id
from safetensors.numpy import save

from support.fake_hub import TOKEN, FakeHub, hub_in_use
from tuneoff import regular_files
from tuneoff.checked_export import CARD, EXPORT_FILE, ExportFile, StudyFacts
from tuneoff.errors import RunFailure, UserError
from tuneoff.export.export_check import ExportCheck
from tuneoff.export.wanted import Form
from tuneoff.hub_push import EVAL_FILE, check_repository, evaluation, is_export, prepare_push, send

STUDY = StudyFacts(
    name="mine",
    metric="rouge1",
    score=40.0,
    documents=200,
    signature="rouge1 v1",
    date="2026-11-28",
    dataset=None,
    dataset_revision=None,
    verdict=("LoRA is best.",),
)
CHECK = ExportCheck(
    metric="rouge1",
    documents=100,
    run_mean=40,
    export_mean=39.75,
    loss=0.25,
    low=0,
    high=1,
    same_texts=50,
    program="x",
    seconds=1,
)
FILE = ExportFile(
    run="lora-s0", method="lora", form="merged", numbers="float32", check=CHECK, unchecked=None, study=STUDY
)

WEIGHTS = save({"a": np.zeros(9)})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with hub_in_use(monkeypatch) as found:
        yield found


def export_in(folder: Path, content: ExportFile = FILE) -> Path:
    folder.mkdir()
    (folder / CARD).write_text("# card\n")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / EXPORT_FILE).write_text(content.model_dump_json())
    (folder / "predictions.jsonl").write_text("a text of the study\n")
    (folder / "pickle.bin").write_bytes(b"x")
    return folder


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # of huggingface_hub
def test_files_of_the_export_and_its_evaluation_arrive(hub: FakeHub, tmp_path: Path) -> None:
    push = prepare_push(export_in(tmp_path / "out"), "me/model", dataset="owner/data", task="sum")
    send(push)
    assert set(hub.files) == {CARD, EXPORT_FILE, "model.safetensors", EVAL_FILE}
    assert hub.files["model.safetensors"] == WEIGHTS
    assert [(made["name"], made["organization"], made["visibility"]) for made in hub.made] == [
        ("model", "me", "private")
    ]
    [entry] = yaml.safe_load(hub.files[EVAL_FILE])
    assert entry["dataset"] == {"id": "owner/data", "task_id": "sum"}
    assert entry["value"] == 39.75
    assert entry["date"] == "2026-11-28"
    assert entry["source"]["url"] == "https://huggingface.co/me/model"
    assert "100 test documents" in entry["notes"]
    assert dict(push.paths)[EVAL_FILE] == len(hub.files[EVAL_FILE])


def test_the_evaluation_is_what_the_library_of_the_hub_would_write() -> None:
    [entry] = yaml.safe_load(evaluation(FILE, "me/model", "owner/data", "default") or "")
    theirs = huggingface_hub.EvalResultEntry(
        dataset_id="owner/data",
        task_id="default",
        value=39.75,
        date="2026-11-28",
        source_url="https://huggingface.co/me/model",
        source_name="Model card, by tuneoff",
        notes=entry["notes"],
    )
    assert [entry] == huggingface_hub.eval_result_entries_to_yaml([theirs])


@pytest.mark.parametrize("task", ["\U0001f680", "a\x7fb", 'a"\\\n: # é', "- \u2028{}"])
def test_the_library_of_the_hub_reads_every_sign_of_a_text(task: str) -> None:
    """huggingface_hub 2.4 reads metadata by PyYAML."""
    [entry] = huggingface_hub.parse_eval_result_entries(
        yaml.safe_load(evaluation(FILE, "me/model", "owner/data", task) or "")
    )
    assert entry.task_id == task


def test_a_score_that_is_no_number_is_not_sent() -> None:
    content = FILE.model_copy(update={"check": CHECK.model_copy(update={"export_mean": float("nan")})})
    assert evaluation(content, "me/model", "owner/data", "default") is None


def test_without_a_data_set_of_the_hub_there_is_no_evaluation(tmp_path: Path) -> None:
    assert prepare_push(export_in(tmp_path / "out"), "me/model").evaluation is None
    starter = FILE.model_copy(update={"check": None, "study": STUDY.model_copy(update={"dataset": "a/b"})})
    [entry] = yaml.safe_load(evaluation(starter, "me/model", None, "default") or "")
    assert (entry["dataset"]["id"], entry["value"]) == ("a/b", 40.0)


def test_documents_in_a_prompt_are_sent_only_if_that_is_asked_for(tmp_path: Path) -> None:
    folder = export_in(tmp_path / "out", FILE.model_copy(update={"holds_documents": True, "method": "few_shot"}))
    with pytest.raises(UserError, match=r"holds documents of the training data.*--with-texts"):
        prepare_push(folder, "me/model")
    assert CARD in prepare_push(folder, "me/model", with_texts=True).files


@pytest.mark.parametrize(
    "name",
    [
        "model", "me/../x", "me/a b", "me/a--b", "/x", "me/" + "x" * 100, "-a/b", "a/b/c", "me/é", "me/a-", "me./a",
        "me/a.git",
    ],
)  # fmt: skip
def test_names_that_the_hub_does_not_allow(name: str) -> None:
    with pytest.raises(huggingface_hub.errors.HFValidationError):
        validate_repo_id(name if "/" in name and len(name) < 96 else "a--b")
    with pytest.raises(UserError, match="write owner/name"):
        check_repository(name)


@pytest.mark.parametrize("name", ["me/a", "_me/a_b.c-1", "1/2"])
def test_names_that_the_hub_allows(name: str) -> None:
    validate_repo_id(name)
    check_repository(name)


def test_templates_of_a_tokenizer_are_sent_and_code_is_not(tmp_path: Path) -> None:
    folder = export_in(tmp_path / "out")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    assert "additional_chat_templates/tool_use.jinja" in dict(prepare_push(folder, "me/model").paths)
    (folder / "modeling_mine.py").write_text("")
    with pytest.raises(UserError, match="code of the model, which is not pushed"):
        prepare_push(folder, "me/model")


def test_a_folder_with_links_is_refused(tmp_path: Path) -> None:
    folder = export_in(tmp_path / "out")
    assert is_export(folder)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "more.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UserError, match=r"more\.txt: not a file of an export"):
        prepare_push(folder, "me/model")


def test_a_damaged_export_is_refused(tmp_path: Path) -> None:
    folder = export_in(tmp_path / "out")
    (folder / EXPORT_FILE).write_text("{")
    with pytest.raises(UserError, match="export the run again"):
        prepare_push(folder, "me/model")


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, UserError, "hf auth login"),
        (403, UserError, "may not write there"),
        (500, RunFailure, "answered with 500"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    status: int, error: type[Exception], words: str, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.status = status
    with pytest.raises(error, match=words):
        send(prepare_push(export_in(tmp_path / "out"), "me/model"))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    push = prepare_push(export_in(tmp_path / "out"), "me/model")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        send(push)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(RunFailure, match="cannot be reached"):
        send(push)


@pytest.mark.parametrize(
    ("form", "name", "content", "words"),
    [
        ("merged", "x.gguf", b"ssh-rsa", "not a file of an export --to merged"),
        ("merged", "adapter_model.safetensors", WEIGHTS, "not a file of an export --to merged"),
        ("adapter", "model.safetensors", WEIGHTS, "not a file of an export --to adapter"),
        ("gguf", "x.gguf", b"ssh-rsa", "not a GGUF file"),
        ("adapter", "trained.safetensors", b"ssh-rsa" * 9, "not a safetensors file"),
    ],
)
def test_weights_are_sent_under_their_names_if_they_are_weights(
    form: Form, name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    folder = export_in(tmp_path / "out", FILE.model_copy(update={"form": form}))
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        prepare_push(folder, "me/model")


def test_an_adapter_is_sent_if_its_settings_fit_its_weights(tmp_path: Path) -> None:
    folder = export_in(tmp_path / "out", FILE.model_copy(update={"form": "adapter"}))
    (folder / "model.safetensors").unlink()
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    fitting = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "token_dim": 8}
    config.write_text(json.dumps(fitting))
    with pytest.raises(UserError, match="an adapter without adapter_model"):
        prepare_push(folder, "me/model")
    weights.write_bytes(save({"prompt_embeddings": np.zeros((4, 8))}))
    assert {"adapter_config.json", "adapter_model.safetensors"} < set(dict(prepare_push(folder, "me/model").paths))
    for odd in ({"num_virtual_tokens": 40_000_000}, {"peft_type": "XLORA"}, {"auto_mapping": {"parent_library": "os"}}):
        config.write_text(json.dumps(fitting | odd))
        with pytest.raises(UserError, match="adapter_config"):
            prepare_push(folder, "me/model")


def test_a_file_that_is_a_hole_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_files, "SMALL_BYTES", 1000)
    folder = export_in(tmp_path / "out")
    (folder / "vocab.txt").touch()
    os.truncate(folder / "vocab.txt", 10**6)
    with pytest.raises(UserError, match="ever written"):
        prepare_push(folder, "me/model")
