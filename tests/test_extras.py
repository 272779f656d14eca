"""What an installation without the extra `tune` says."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import tuneoff as to
from support.verdict_study import study_folder, write_spec
from tuneoff.cli import main
from tuneoff.errors import UserError
from tuneoff.extras import INSTALL_TUNE, TUNE, missing_extra, require_tune


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if none of the extra's modules were found."""
    monkeypatch.setattr("tuneoff.extras.find_spec", lambda name: None if name in TUNE else find_spec(name))


WITHOUT = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*TUNE, "pyarrow", "vl_convert", "pynvml", "altair")}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from tuneoff.cli import main
"""


def test_nothing_is_missing_where_it_is_installed() -> None:
    require_tune("a study")


COMMANDS = {
    "compare": ["--train-file=train.csv"],
    "check": ["--train-file=train.csv"],
    "train": ["lora", "--train-file=train.csv"],
    "summarize": ["runs/mine", "text.txt"],
    "work": ["runs/mine"],
    "doctor": [],
}


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_needs_it_says_so_in_one_sentence(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.csv").write_text("document,summary\n" + "a text of some words,words\n" * 40)
    assert main([command, *COMMANDS[command]]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.strip().splitlines()) == 1
    assert "needs torch, transformers, peft, accelerate, safetensors and gguf, which are not installed" in error
    assert error.strip().endswith("run pip install 'tuneoff[tune]'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.csv"]


@pytest.mark.usefixtures("light")
def test_python_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compare needs torch.*; run pip install 'tuneoff\[tune\]'"):
        to.compare(train_file="train.csv", output=tmp_path / "study")


def test_what_judges_and_reports_needs_none_of_it(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=["zero_shot", "lora", "full"], seeds=2)
    scores, page = tmp_path / "scores.csv", tmp_path / "page.html"
    scores.write_text("id,A,B\n" + "".join(f"{at},{at % 7},{at % 5}\n" for at in range(40)))
    commands = [
        ["judge", str(study), str(scores), "--report", str(page)],
        ["report", str(study)],
        ["methods"],
        ["diff", str(study), str(study)],
        ["compare", "--help"],
    ]
    code = f"{WITHOUT}\nprint([main(command) for command in {commands}], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    *said, codes = done.stderr.strip().splitlines()
    assert codes == "[0, 0, 0, 0, 0]"
    assert said[0] == f"report: {page}"
    assert "No module named 'altair'; run pip install altair vl-convert-python" in said[1]
    assert len(said) == 2


def test_an_import_that_fails_deep_inside_is_the_same_sentence() -> None:
    error = ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert missing_extra(error) == f"this needs torch, which is not installed; {INSTALL_TUNE}"
    assert missing_extra(ModuleNotFoundError("No module named 'numpy'", name="numpy")) is None
    assert missing_extra(ValueError("torch")) is None
