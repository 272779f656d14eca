"""Every command, study file and program of the docs is carried out, with a tiny model and tiny studies.

Commands are found in the pages (`support/docs_commands.py`), so a new one runs here, or fails here until it can. A
command that no test can carry out has the comment `# not run in tests`.
"""

import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tuneoff
from fake_package import write_package
from support.docs_commands import DOCS, PAGES, ROOT, Command, blocks, commands_in_pages, commands_of
from support.docs_study import PROGRAMS, make_studies, run_as_typed, write_named_files
from test_docs import lines_in_docs
from tiny import example_row
from tuneoff import models
from tuneoff.cli import main
from tuneoff.data import starter_present
from tuneoff.methods import METHODS
from tuneoff.metrics.registry import MetricRegistry
from tuneoff.study.study_file import read_study

TESTS = Path(__file__).parent


class Elsewhere(NamedTuple):
    """Commands that another file of tests carries out: `page command` matches `pattern`."""

    pattern: str
    file: str
    words: str


RUN_ELSEWHERE = (
    Elsewhere(r"data\.md (gzip|python -m zipfile) ", "data/test_data_page.py", "emails.jsonl.gz"),
    Elsewhere(r"exports\.md tuneoff push DIR owner/name$", "cli/test_pushes.py", '"push", "study", "me/model"'),
    Elsewhere(r"scaling\.md tuneoff compare .* --processes 2$", "test_cluster_docs.py", "--processes 2"),
    Elsewhere(r"shared_folder\.md tuneoff (compare|work) ", "test_cluster_docs.py", "shared_folder.md"),
    Elsewhere(r"slurm\.md tuneoff compare ", "test_cluster_docs.py", "slurm.md"),
    Elsewhere(r"ray\.md tuneoff compare ", "test_cluster_docs.py", "ray.md"),
    Elsewhere(r"object_stores\.md tuneoff (compare|judge) ", "test_cluster_docs.py", "object_stores.md"),
)
PLANNING = ("compare", "check", "train", "init")


def elsewhere(command: Command) -> list[Elsewhere]:
    return [each for each in RUN_ELSEWHERE if re.match(each.pattern, f"{command.page.name} {command.typed}")]


def runs_here(command: Command) -> bool:
    return not command.marked and not elsewhere(command) and re.match(PROGRAMS, command.typed) is not None


def not_run(commands: list[Command]) -> list[Command]:
    """Those that nothing carries out although they are not marked."""
    return [each for each in commands if not each.marked and not elsewhere(each) and not runs_here(each)]


def test_every_command_of_the_docs_runs_or_is_marked() -> None:
    commands = commands_in_pages()
    assert not_run(commands) == []
    assert sum(map(runs_here, commands)) > 100
    marked = [command.typed for command in commands if command.marked]
    assert "make compare" in marked
    assert [typed for typed in marked if re.match(r"\S*tuneoff (?!starter$)", typed)] == []


def test_a_command_that_nothing_runs_is_found() -> None:
    text = """
```sh
$ tuneoff judge a  # with a comment
a line of its output
```

    ```sh
    # a comment
    pip install x  # or another  # not run in tests
    ollama create x \\
      --file y
    ```

Sentences have `tuneoff judge` and `tuneoff judge
DIR`, and a block has no fence:

    OMP_NUM_THREADS=1 python benches/x.py \\
        --more

```text
tuneoff judge b
```
"""
    found = commands_of(Path("page.md"), text)
    assert [(command.typed, command.marked) for command in found] == [
        ("tuneoff judge a", False),
        ("pip install x", True),
        ("ollama create x --file y", False),
        ("OMP_NUM_THREADS=1 python benches/x.py --more", False),
        ("tuneoff judge DIR", False),
    ]
    assert [command.typed for command in not_run(found)] == ["ollama create x --file y"]


def test_no_command_of_tuneoff_is_overlooked() -> None:
    """The other search of the docs, which parses commands, finds no more."""
    found = {(command.page.name, command.typed) for command in commands_in_pages()}
    others = {
        (page.name, " ".join(f"tuneoff {name}{rest}".partition(" # ")[0].split()))
        for page, name, rest in lines_in_docs()
        if page in PAGES
    }
    assert len(others) > 60
    assert {each for each in others if not any(each[0] == page and each[1] in typed for page, typed in found)} == set()


@pytest.mark.parametrize("each", RUN_ELSEWHERE, ids=lambda each: each.file)
def test_commands_that_run_elsewhere_are_there(each: Elsewhere) -> None:
    assert each.words in (TESTS / each.file).read_text(encoding="utf-8")
    assert any(each in elsewhere(command) and not command.marked for command in commands_in_pages())


def test_what_make_compare_runs_is_what_the_docs_say() -> None:
    """`make compare` itself installs packages and trains for a quarter of an hour."""
    command = "tuneoff compare --preset starter --budget 15m --output runs/starter"
    assert f"\n\t$(BIN)/{command}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"`make compare` runs `{command}`" in (DOCS / "commands.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Iterator[Path]:
    """A folder with the files that the docs name, in which a study is planned, and one that has their studies too."""
    root = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEOFF_CACHE", str(root / "cache"))
        for name in ("planned", "used"):
            (root / name).mkdir()
            write_named_files(root / name)
        shutil.copytree(tiny_model("llama"), root / "planned" / "my-model")
        patch.chdir(root / "planned")
        assert main(["init", "train.jsonl", "--model=my-model", "--no-probe"]) == 0
        patch.chdir(root / "used")
        make_studies(tiny_model("llama"))
        yield root


def page_name(page: Path) -> str:
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page, page.read_text("utf-8"))], ids=page_name)
def test_commands_of_a_page_run_in_their_order(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`compare` plans its study; all others do what they do."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(prepared / "cache"))
    for name in ("planned", "used"):
        shutil.copytree(prepared / name, tmp_path / name, symlinks=True)
    failed = []
    for command in filter(runs_here, commands_of(page, page.read_text(encoding="utf-8"))):
        plans = re.search(rf"\btuneoff ({'|'.join(PLANNING)})\b", command.typed) or "scripts/" in command.typed
        monkeypatch.chdir(tmp_path / ("planned" if plans else "used"))
        capfd.readouterr()
        code = run_as_typed(command.typed)
        said = capfd.readouterr().err
        if code not in ((0, 1) if "--strict" in command.typed else (0,)) or "Traceback" in said:
            failed.append((command.typed, code, said))
    assert failed == []


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the files that the docs name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    write_named_files(tmp_path)
    shutil.copytree(tiny_model("llama"), "my-model")
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_quick_start_works_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Its study is carried out, with a tiny model, and without `--budget`, whose probe takes its time."""
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
        typed = re.sub(r"--budget \S+|--dry-run", "", words).split() + small.get(command, []) + dry
        typed += ["--model=my-model"] * (command in ("init", "compare"))
        assert main([command, *typed]) == 0, (command, capsys.readouterr().err)
        done.append(command)
    assert done == ["init", "compare", "compare", "summarize", "export"]
    assert Path("runs/emails/report.html").exists()


SMALL = {"trials": 0, "seeds": 1, "max_steps": 2, "max_length": 128, "max_new_tokens": 8, "model": "my-model"}


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
@pytest.mark.usefixtures("folder")
def test_python_of_the_docs_runs(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of a page in one namespace. The winner is that of another study, because two steps hand over none."""
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
    handed_over = tuneoff.load_study(prepared / "used" / "runs" / "emails")
    ran, of_winners = 0, 0
    for page in PAGES:
        names: dict[str, Any] = {"frame": pandas.read_csv("answers.csv")}
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.info != "python":  # those that write files run in `data/test_data_page.py`
                continue
            lines = block.content.splitlines()
            exec("\n".join(line for line in lines if ".winner" not in line), names)
            winners = [line for line in lines if ".winner" in line]
            exec("\n".join(winners), names | {"study": handed_over})
            ran, of_winners = ran + 1, of_winners + len(winners)
        if page.name == "README.md":
            shutil.copytree("runs/mine", "runs/starter")
    assert ran > 7
    assert of_winners == 3
    assert len(list(Path("exports/mine").glob("*.gguf"))) == 1
    assert len(compared) > 2
    assert "train.jsonl" in capsys.readouterr().out  # what the page about data prints


TOML = [
    (page, block.content)
    for page in PAGES
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.info.split()[:1] == ["toml"]
]
OF_A_PACKAGE = "# pyproject.toml"


@pytest.mark.parametrize(
    ("page", "content"),
    [part for part in TOML if OF_A_PACKAGE not in part[1]],
    ids=lambda part: part.name if isinstance(part, Path) else "",
)
def test_study_files_of_the_docs_are_valid(page: Path, content: str, tmp_path: Path) -> None:
    """A fragment becomes a study by the data, and by the fractions of the data that its claims name."""
    given = tomllib.loads(content)
    (tmp_path / "train.jsonl").write_text(json.dumps(example_row(0)) + "\n")
    path = tmp_path / "study.toml"
    path.write_text(f'fractions = [0.1, 1.0]\n{content}\n[data]\ntrain_file = "train.jsonl"\n', encoding="utf-8")
    study = read_study(path)
    read = study.model_dump(mode="json")
    assert given
    for key, value in given.items():
        if key == "claims":
            assert [claim.kind for claim in study.claims] == [claim["kind"] for claim in value]
        elif key == "hyperparameters":
            assert {row: read[key][row] for row in value} == value
        else:
            assert read[key] == value, key


def test_a_study_file_that_is_wrong_would_be_found(tmp_path: Path) -> None:
    with pytest.raises(tuneoff.UserError, match="learning_rat"):
        test_study_files_of_the_docs_are_valid(Path("x.md"), "[hyperparameters.lora]\nlearning_rat = 1\n", tmp_path)


def test_packages_of_the_docs_can_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry point loads the module of its page, or the example of a method under the name of the page."""
    example = (ROOT / "examples" / "custom_method" / "tuneoff_query_tuning.py").read_text(encoding="utf-8")
    site = tmp_path / "site"
    loaded = []
    for page, content in TOML:
        if OF_A_PACKAGE not in content:
            continue
        for group, entries in tomllib.loads(content)["project"]["entry-points"].items():
            for name, value in entries.items():
                module, _, owner = value.partition(":")
                sources = [block.content for block in blocks(page.read_text("utf-8")) if block.info == "python"]
                own = [source for source in sources if source.startswith(f"# {module}.py\n")]
                source = own[0] if own else example.replace("query_tuning", name).replace("QueryTuning", owner)
                write_package(site, module, source, f"[{group}]\n{name} = {value}\n")
                loaded.append((group, name))
    assert loaded == [("tuneoff.metrics", "questions"), ("tuneoff.methods", "my_method")]
    monkeypatch.syspath_prepend(str(site))
    metric = MetricRegistry()["questions"]
    assert metric.score is not None
    assert metric.score("Is it? Why?", "", []) == 2
    assert METHODS["my_method"].title == "Query tuning"
    for name in ("my_metrics", "my_package"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(
    (models.starter_file() is None or not starter_present()) and "CI" not in os.environ,
    reason="the starter packages are not installed",
)
def test_the_list_of_a_check_in_the_docs_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the starter itself. The memory of the machine is another one."""
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    [shown] = [block.content for block in blocks(page) if block.content.startswith("$ tuneoff check")]
    command, *lines = [re.sub(r"of [\d.]+ GB$", "of GB", line) for line in shown.splitlines() if line != "..."]
    monkeypatch.chdir(tmp_path)
    assert command == "$ tuneoff check --preset starter"
    assert main(["check", "--preset", "starter"]) == 0
    printed = [re.sub(r"of [\d.]+ GB$", "of GB", line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) > 5
    assert [line for line in lines if line not in printed] == []
