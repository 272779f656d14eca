"""`tuneoff push`: a dry run prints all that would be sent; a run is exported first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fake_hub import TOKEN, FakeHub, hub_in_use
from support.stored_study import stored_study
from tuneoff.cli import main


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with hub_in_use(monkeypatch) as found:
        yield found


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # of huggingface_hub
def test_a_run_is_pushed_as_adapter_with_the_verdict(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored_study(tmp_path, monkeypatch)
    command = ["push", "study", "me/model", "--method", "lora", "--dataset", "owner/data"]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not hub.made
    assert not hub.files
    assert main(command) == 0
    assert hub.address in capsys.readouterr().out
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} < set(hub.files)
    for name, content in hub.files.items():
        assert f"{len(content):,} bytes  {name}\n" in printed
    for name in ("README.md", ".eval_results/tuneoff.yaml"):
        assert hub.files[name].decode().rstrip() in printed
    card = hub.files["README.md"].decode()
    assert "What the study found:" in card
    assert "Not checked: it was not asked for." in card
    sent = b"".join(content for name, content in hub.files.items() if not name.startswith("tokenizer")).decode("latin1")
    assert "Is few to that the clean" not in sent  # a test document
    assert TOKEN not in printed + sent


def test_a_method_of_an_export_and_a_bad_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored_study(tmp_path, monkeypatch)
    assert main(["push", "study", "model"]) == 2
    assert "write owner/name" in capsys.readouterr().err
    assert main(["export", "study", "--to", "merged", "--method", "lora", "--no-check", "--output", "out"]) == 0
    assert main(["push", "out", "me/model", "--method", "lora"]) == 2
    assert "an export is of one method" in capsys.readouterr().err
    assert main(["push", "out", "me/model", "--dry-run"]) == 0
    assert "no .eval_results/" in capsys.readouterr().err
