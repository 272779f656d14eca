"""The package in `examples/custom_method`: installed, listed, and run by the whole program."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.study_folders import planned_run_folders, read_record
from tuneoff.cli import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_method"
METHOD_LINES = 40


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path into which pip has installed the example."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)  # building leaves files beside the source
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, f"--target={site}", str(source)], check=True, timeout=120
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def test_the_method_is_short() -> None:
    [module] = EXAMPLE.glob("*.py")
    assert len(module.read_text(encoding="utf-8").splitlines()) < METHOD_LINES


@pytest.mark.usefixtures("installed")
@pytest.mark.slow
def test_an_installed_method_is_listed_and_trains_as_any_other(
    tiny_model: Callable[[str], Path],
    tiny_data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["methods"]) == 0
    assert "query_tuning.learning_rate = 0.001" in capsys.readouterr().out
    output = tmp_path / "runs"
    arguments = [
        f"--model={tiny_model('qwen2')}",
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        "--max-length=128",
        "--max-new-tokens=8",
        "--max-steps=2",
        "--precision=fp32",
        "--learning-rate=0.002",
        f"--output={output}",
    ]
    assert main(["train", "query-tuning", *arguments]) == 0
    assert "Query tuning" in capsys.readouterr().out
    [folder] = planned_run_folders(output)
    record = read_record(folder)
    assert record.spec.method.name == "query_tuning"
    assert record.spec.method.hyperparameters["learning_rate"] == 0.002
    assert record.trainable_parameters == 2 * (32 * 32 + 32)  # two layers of 32 x 32 weights and 32 biases
    assert record.artefact is not None
    assert record.artefact.format == "tensors"
    assert main(["summarize", str(output), str(tiny_data["test"]), "--json"]) == 0
    texts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(texts) == 8
