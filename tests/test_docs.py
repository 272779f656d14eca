"""The docs keep pace with the code: methods and their ranges, commands and flags, modules, layers, version."""

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import tuneoff
from test_layers import LAYERS
from tuneoff.cli import main
from tuneoff.methods import METHODS, defaults
from tuneoff.methods.peft_type import PeftAdapter

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md")]
PAGES += sorted(page for page in DOCS.rglob("*.md") if page.name != "lab_log.md")  # the log keeps the names of its day
HEADINGS = ["What it is", "When to use it", "Hyper-parameters", "Cost", "What it leaves", "Traps"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page_with_the_same_headings(name: str) -> None:
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    for hyperparameter in defaults(name):
        assert f"`{hyperparameter}`" in page


@pytest.mark.parametrize("name", METHODS)
def test_stated_ranges_are_those_of_the_code(name: str) -> None:
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    for hyperparameter, (low, high) in METHODS[name].search.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{hyperparameter}`"))
        stated = [float(number) for number in re.findall(r"\d+e-\d+", row)]
        assert stated[:3] == [defaults(name)[hyperparameter], low, high]


def test_no_page_of_a_method_that_is_gone() -> None:
    assert {path.stem for path in (DOCS / "methods").glob("*.md")} == {*METHODS, "peft"}


def test_the_page_of_any_adapter_has_the_same_headings_and_the_range_of_the_code() -> None:
    page = (DOCS / "methods" / "peft.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    row = next(line for line in page.splitlines() if line.startswith("| `learning_rate`"))
    low, high = PeftAdapter.search["learning_rate"]
    assert [float(number) for number in re.findall(r"\d+e-\d+", row)] == [PeftAdapter.learning_rate, low, high]


COMMAND = re.compile(r"^(?:\$ )?tuneoff ([a-z-]+)(.*)$", re.MULTILINE)
OF_THE_METHOD = {"--r", "--lora-alpha", "--num-virtual-tokens"}  # `train` takes a method's hyper-parameters as flags


def commands_in_docs() -> dict[str, set[str]]:
    """Command -> flags, from all code blocks of the pages. A line that ends in a backslash goes on in the next."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for command, rest in COMMAND.findall(block.replace("\\\n", " ")):
                flags = re.findall(r"(?<!\S)--[a-z][\w-]*", rest.partition(" # ")[0])
                found.setdefault(command, set()).update(flag.replace("_", "-") for flag in flags)
    return found


def test_commands_in_the_docs_exist_with_their_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TERMINAL_WIDTH", "250")
    commands = commands_in_docs()
    assert {"compare", "train", "summarize", "judge"} <= set(commands)
    assert "--train-file" in commands["compare"]
    for command, flags in commands.items():
        assert main([command, "--help"]) == 0
        known = {flag.replace("_", "-") for flag in re.findall(r"--[a-z][\w-]*", capsys.readouterr().out)}
        assert flags - known <= (OF_THE_METHOD if command == "train" else set()), command


def test_the_example_of_another_task_prints_what_the_page_shows(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
) -> None:
    """With a tiny model, which is read faster; the page leaves out the line about the model."""
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    found = re.search(r"^```sh\n(tuneoff compare emails\.csv .*?)^```\n\n```text\n(.*?)^```", page, re.M | re.S)
    assert found is not None
    shutil.copy(DOCS / "emails.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    command = shlex.split(found[1].replace("\\\n", " "))[1:]
    assert main([*command, f"--model={tiny_model('llama')}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    shown = found[2].splitlines()
    assert len(shown) > 4
    assert [line for line in shown if line not in printed] == []


def test_the_example_of_scores_prints_what_the_page_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "judging.md").read_text(encoding="utf-8")
    found = re.search(r"^```sh\n\$ tuneoff (judge docs/answers.*?)\n```\n\n```text\n(.*?)^```", page, re.M | re.S)
    assert found is not None
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(found[1])) == 0
    printed = capsys.readouterr().out.splitlines()
    assert found[2].splitlines() == printed[:5]
    rows = re.search(r"^```text\n(question,.*?)^```", page, re.M | re.S)
    assert rows is not None
    assert (DOCS / "answers.csv").read_text(encoding="utf-8").startswith(rows[1])


def test_files_named_in_the_docs_exist() -> None:
    """In backticks: a path of the package (`engine/prefill.py`) or of the repository (`python benches/train.py`)."""
    folders = (ROOT / "src" / "tuneoff", ROOT)
    named = [
        (page.name, name)
        for page in PAGES
        for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        for name in re.findall(r"(?<![\w./-])(?:[a-z_]+/)+[a-z_]+\.(?:py|c)(?!\w)", span)
    ]
    assert len(named) > 10
    assert [found for found in named if not any((folder / found[1]).exists() for folder in folders)] == []


def test_folders_of_agents_md_exist() -> None:
    text = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
    tree = text[text.index("src/tuneoff/\n") : text.index("benches/  docs/")]
    folders = re.findall(r"(?<!\S)([a-z]+)/(?=\s)", tree)
    assert {"stats", "engine", "methods", "verdict", "report"} <= set(folders)
    for folder in set(folders) - {"kernels"}:
        assert (ROOT / "src" / "tuneoff" / folder).is_dir(), folder


def test_contributing_has_the_layers_of_the_test() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.+) \|$", text, re.MULTILINE)
    assert {name: int(layer) for layer, names in rows for name in re.findall(r"`(\w+)`", names)} == LAYERS


def test_citation_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([a-z-]+): (.+)$", text, re.MULTILINE))
    assert (fields["title"], fields["version"], fields["license"]) == (
        project["name"],
        tuneoff.__version__,
        project["license"],
    )
    assert fields["cff-version"] == "1.2.0"
    assert fields["message"]
    assert text.endswith("authors:\n  - name: The tuneoff authors\n")


def test_hooks_before_a_commit_are_the_projects_own_tools() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^ +- repo: (.+)$", text, re.MULTILINE) == ["local"]
    assert set(re.findall(r"^ +entry: (.+)$", text, re.MULTILINE)) == {
        ".venv/bin/ruff format",
        ".venv/bin/ruff check",
        ".venv/bin/mypy",
    }
    assert set(re.findall(r"^ +language: (.+)$", text, re.MULTILINE)) == {"system"}
