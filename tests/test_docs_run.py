"""Commands of the docs are carried out: those that plan a study as a dry run, those of the quick start in their order.

With a tiny model instead of the starter, and without `--budget`, whose probe takes its time.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tuneoff
from test_docs import DOCS, PAGES, lines_in_docs
from tiny import example_row
from tuneoff.cli import main

# What these need is tested elsewhere: a cluster, a store, processors.
NOT_HERE = ("s3://", "--engine", "--processes", "--address")
DROPPED = r"--budget \S+|--json|--quiet|--dry-run"

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the files that the docs name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    shutil.copy(DOCS / "emails.csv", tmp_path)
    shutil.copytree(tiny_model("llama"), "my-model")
    for name, rows in (("train", range(90)), ("val", range(90, 110)), ("test", range(110, 140))):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(example_row(index)) + "\n" for index in rows))
    Path("new_email.txt").write_text("My order arrived without the charger. Can you send one?")
    return tmp_path


def with_tiny_model(words: str) -> list[str]:
    """A command of the docs, as typed behind its name, with the tiny model."""
    typed = re.sub(DROPPED, "", words.partition(" # ")[0]).replace("HuggingFaceTB/SmolLM2-135M", "./my-model")
    typed = typed.replace("--model ./my-model --model ./my-model", "--model ./my-model")
    return [*shlex.split(typed, comments=True), *([] if "--model" in typed else ["--model=my-model"])]


@pytest.mark.usefixtures("folder")
def test_studies_of_the_docs_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "train.jsonl", "--model=my-model", "--no-probe"]) == 0
    typed = {rest for _, command, rest in lines_in_docs() if command == "compare" and "..." not in rest}
    planned = [words for words in sorted(typed) if not any(text in words for text in NOT_HERE)]
    assert len(planned) > 15
    ids = [example_row(index)["id"] for index in range(110, 140)]
    Path("outputs.jsonl").write_text("".join(json.dumps({"id": name, "text": "A text."}) + "\n" for name in ids))
    for name in {name for words in planned for name in re.findall(r"--train-file (\S+\.jsonl)", words)}:
        if not Path(name).exists():
            shutil.copy("train.jsonl", name)
    failed = []
    for words in planned:
        more = []
        if "emails.csv" in words and "--document-column" not in words:
            more = ["--document-column=email", "--summary-column=subject"]
        if "--predictions" in words:  # which are of these documents
            more = ["--test-file=test.jsonl"]
        capsys.readouterr()
        if main(["compare", *with_tiny_model(words), *more, "--dry-run"]) != 0:
            failed.append((words, capsys.readouterr().err))
    assert failed == []


@pytest.mark.usefixtures("folder")
def test_the_quick_start_works_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    small = {
        "init": ["--no-probe", "--methods=zero_shot,lora"],
        "compare": ["--max-steps=2", "--trials=0", "--seeds=1"],
        "summarize": ["--method=lora"],  # after two steps no model is handed over
        "export": ["--no-check", "--method=lora"],
    }
    done = []
    for page, command, rest in lines_in_docs():
        if page.name != "index.md":
            continue
        words = rest.partition(" # ")[0]
        dry = ["--dry-run"] * ("--dry-run" in words)
        typed = re.sub(DROPPED, "", words).split() + small.get(command, []) + dry
        typed += ["--model=my-model"] * (command in ("init", "compare"))
        assert main([command, *typed]) == 0, (command, capsys.readouterr().err)
        done.append(command)
    assert done == ["init", "compare", "compare", "summarize", "export"]
    assert Path("runs/emails/report.html").exists()


SMALL = {"trials": 0, "seeds": 1, "max_steps": 2, "max_length": 128, "max_new_tokens": 8, "model": "my-model"}


@pytest.mark.usefixtures("folder")
def test_python_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of a page in one namespace, except for the winner: after two steps no model is handed over."""
    pandas = pytest.importorskip("pandas")
    compare, compared = tuneoff.compare, []

    def small(**given: Any) -> tuneoff.Study:
        if given.pop("preset", None) is not None:
            given["train_file"] = "train.jsonl"
        compared.append(given)
        return compare(**(given | SMALL))

    monkeypatch.setattr(tuneoff, "compare", small)
    shutil.copy(DOCS / "answers.csv", ".")
    rows = [example_row(index) for index in range(110, 140)]
    pandas.DataFrame(rows).to_csv("test.csv", index=False)
    ran = 0
    for page in PAGES:
        found = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        names: dict[str, Any] = {"frame": pandas.read_csv("answers.csv")}
        for block in found:
            exec("\n".join(line for line in block.splitlines() if ".winner" not in line), names)
            ran += 1
        if page.name == "README.md":
            shutil.copytree("runs/mine", "runs/starter")
    assert ran > 7
    assert len(compared) > 2
    assert "train.jsonl" in capsys.readouterr().out  # what the page about data prints
