"""The docs keep pace with the code: methods and their ranges, commands and flags, modules, layers, version."""

import contextlib
import doctest
import io
import json
import re
import shlex
import shutil
import statistics
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import tuneoff
from support.docs_commands import PAGES as COMMAND_PAGES
from support.docs_commands import blocks
from test_layers import LAYERS
from tiny import example_row
from tuneoff.cli import main
from tuneoff.cli.app import UsageError, app
from tuneoff.cli.command_line import settle
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, defaults
from tuneoff.methods.peft_type import PeftAdapter

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md", "SKILL.md")]
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


COMMAND = re.compile(r"^ *(?:\$ |\w+=\S+ )?tuneoff ([a-z-]+)(.*)$", re.MULTILINE)
OF_THE_METHOD = {"--r", "--lora-alpha", "--num-virtual-tokens"}  # `train` takes a method's hyper-parameters as flags


def lines_in_docs() -> list[tuple[Path, str, str]]:
    """Page, command and the rest of the line, from all code blocks. A line that ends in a backslash continues."""
    found = []
    for page in PAGES:
        for block in re.findall(
            r"^ *```[^\n]*\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            found += [(page, *line) for line in COMMAND.findall(block.replace("\\\n", " "))]
    return found


def commands_in_docs() -> dict[str, set[str]]:
    """Command -> flags."""
    found: dict[str, set[str]] = {}
    for _, command, rest in lines_in_docs():
        flags = re.findall(r"(?<!\S)--[a-z][\w-]*", rest.partition(" # ")[0])
        found.setdefault(command, set()).update(flag.replace("_", "-") for flag in flags)
    return found


def typed_words(rest: str) -> list[str]:
    """The words behind a command's name that reach it: without a comment and what the shell does with the output."""
    words = shlex.split(rest, comments=True)
    return words[: next((index for index, word in enumerate(words) if word in (">", "|", "&&")), len(words))]


def read_command(words: list[str], commands: dict[str, Any]) -> None:
    """Read a command line without carrying it out."""
    name, *typed = settle(words, commands)
    commands[name].make_context(name, typed)


def test_command_lines_in_the_docs_are_read_as_they_are_typed() -> None:
    """Every one is read as the program reads it: words, flags, and the type of each value. Nothing is carried out."""
    lines = lines_in_docs()
    assert len(lines) > 60
    assert {page.name for page, *_ in lines} >= {"README.md", "SKILL.md", "recipes.md", "index.md"}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong = []
    for page, command, rest in lines:
        try:
            read_command([command, *typed_words(rest)], commands)
        except (UserError, UsageError) as error:
            wrong.append((page.name, command, rest, str(error)))
    assert wrong == []


def test_a_command_line_that_is_wrong_would_be_found() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for words in (["compare", "--seeds", "three"], ["judge"], ["export", "runs/a", "--too", "gguf"]):
        with pytest.raises((UserError, UsageError)):
            read_command(words, commands)


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


STUDY = ROOT / "results" / "scitldr_a"
FAQ = (DOCS / "faq.md").read_text(encoding="utf-8")


def test_memory_in_the_faq_is_that_of_the_records() -> None:
    """The mean of the final runs on all the data, and the lowest and highest of all final runs."""
    peaks: dict[str, list[tuple[float, float]]] = {}
    for path in STUDY.glob("runs/*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["spec"]["role"] == "final" and record["resources"] is not None:
            peak = record["resources"]["peak_memory_bytes"] / 1e9
            peaks.setdefault(METHODS[record["spec"]["method"]["name"]].title, []).append(
                (record["spec"]["fraction"], peak)
            )
    rows = re.findall(r"^\| 135M \| ([^|]+) \|.*\| ([\d.]+) GB \| ([^|]+) \|$", FAQ, re.MULTILINE)
    assert {title for title, *_ in rows} == set(peaks)
    for title, mean, between in rows:
        whole = [peak for fraction, peak in peaks[title] if fraction == 1]
        assert float(mean) == pytest.approx(statistics.fmean(whole), abs=0.006), title
        every = [peak for _, peak in peaks[title]]
        expected = "one run" if len(every) == 1 else f"{min(every):.2f} to {max(every):.2f} GB"
        assert between == expected, title


@pytest.fixture(scope="module")
def judged() -> str:
    """What `tuneoff judge` prints about that study."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(["judge", str(STUDY)]) == 0
    return shown.getvalue()


def test_output_of_judge_in_the_docs_is_what_is_printed(judged: str) -> None:
    printed = {line.strip() for line in judged.splitlines()}
    command = re.escape("$ tuneoff judge results/scitldr_a\nresults/scitldr_a, rouge1\n")
    checked = 0
    for page in PAGES:
        for block in re.findall(rf"^{command}(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            lines = [line.strip() for line in block.splitlines()]
            assert [line for line in lines if line not in ("...", "") and line not in printed] == [], page.name
            checked += len(lines)
    assert checked > 10


def test_differences_in_the_faq_are_those_of_the_verdict(judged: str) -> None:
    verdict = judged.replace("+", "")
    stated = re.findall(r"(\d\.\d) (?:points )?\((−?\d\.\d) to (\d+\.\d)\)", " ".join(FAQ.split()))
    own = [f"{mean} points, {low} to {high}" for mean, low, high in stated]
    assert len(own) > 5
    # results/coursework; two exports; one that the verdict gives with two decimals
    exports = {"0.5 points, 0.1 to 1.0", "1.4 points, −3.1 to 7.7"}
    other = {"4.9 points, 1.4 to 8.4", "1.9 points, 0.1 to 3.7"} | exports
    assert [figure for figure in own if figure not in verdict and figure not in other] == []


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


def test_the_plan_of_forty_emails_has_the_figures_of_the_docs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
) -> None:
    """They depend on numbers of documents, seeds and methods only, so any emails and any model have them."""
    page = " ".join((DOCS / "data.md").read_text(encoding="utf-8").split())
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps(example_row(index)) + "\n" for index in range(40))
    Path("emails.jsonl").write_text(rows, encoding="utf-8")
    command = ["compare", "emails.jsonl", f"--model={tiny_model('llama')}", "--dry-run"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    found = re.search(
        r"40 emails therefore become (\d+) training, (\d+) validation and (\d+) test documents, and one epoch "
        r"in batches of 8 is (\d+) optimiser steps",
        page,
    )
    assert found is not None
    train, validation, test, steps = found.groups()
    for words in (f"train {train} pairs", f"validation {validation} pairs", f"test {test} pairs", f"do, {steps} steps"):
        assert words in printed
    assert f"only {test} test documents: with fewer than 10 no difference between methods is reported" in printed
    stated = re.search(r"`(--test-share \S+)` \((\d+) test documents\), 1 seed .*?, about ([\d.]+) points", page)
    assert stated is not None
    assert main([*command, *stated[1].split()]) == 0
    detected = re.search(r"with 1 seed and (\d+) test documents, .* about ([\d.]+) points", capsys.readouterr().out)
    assert detected is not None
    assert stated.groups()[1:] == detected.groups()
    assert f"with {stated[2]} of them and 1 seed only a difference of about {stated[3]} points" in " ".join(FAQ.split())


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


def test_the_example_of_a_score_has_the_values_of_the_page() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    [source] = [block.content for block in blocks(page) if block.info == "python" and "score(" in block.content]
    *program, call, stated = source.splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(program), names)
    assert call.startswith("score(")
    got = f"{eval(call, names)}\n"
    assert doctest.OutputChecker().check_output(stated.removeprefix("# ") + "\n", got, doctest.ELLIPSIS), got


def printed_by(*typed: str) -> str:
    """What a command prints that writes nothing into the folder of its study."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main([*typed]) == 0
    return shown.getvalue()


@pytest.fixture(scope="module")
def reported() -> list[str]:
    """What `tuneoff report` prints about that study in Markdown."""
    return printed_by("report", str(STUDY), "--format", "markdown").splitlines()


def test_the_report_in_the_docs_is_what_is_printed(reported: list[str]) -> None:
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    [shown] = [block.content for block in blocks(page) if block.content.startswith("$ tuneoff report")]
    command, *lines = shown.splitlines()
    assert command == "$ tuneoff report results/scitldr_a --format markdown"
    assert len(lines) > 2
    assert [line for line in lines if line != "..." and line not in reported] == []


def test_the_table_of_the_study_in_the_readme_is_that_of_the_records(judged: str, reported: list[str]) -> None:
    """Means and gains as the verdict has them, costs as the report."""
    [verdict] = json.loads(printed_by("judge", str(STUDY), "--json"))
    means = {
        curve["title"]: [f"{point['mean']:.1f}" for point in curve["points"]]
        for curve in verdict["data_sizes"]["curves"]
    }
    gains = {
        title: f"{gain} [{low.removeprefix('+')}, {high}]"
        for title, gain, low, high in re.findall(
            r"^  (\S.*?) (?:is better than|and) Zero-shot\b.*\((\+\S+) points, (\S+) to \+(\S+?)\)",
            judged,
            re.MULTILINE,
        )
    }
    costs = {}
    for line in reported:
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if len(cells) == 8:
            minutes, seconds = re.fullmatch(r"(?:(\d+) min )?(\d+) s|.*", cells[5]).groups()  # type: ignore[union-attr]
            costs[cells[0]] = ["" if seconds in (None, "0") else f"{minutes}:{seconds:>02}", *cells[6:]]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z].*?) \| (.*) \|$", readme[readme.index("| 99 | 199 |") :], re.MULTILINE)
    assert {title for title, _ in rows} == set(means)
    for title, row in rows:
        cells = [cell.strip() for cell in row.split("|")]
        untrained = title == "Zero-shot"  # the same at every amount of data
        assert cells[:4] == (["", "", "", means[title][3]] if untrained else means[title]), title
        assert cells[4] == gains.get(title, ""), title
        assert [cells[5], cells[6], cells[7].replace("3.5 kB", "3.50 kB")] == costs[title], title


def test_claims_in_the_docs_are_those_of_the_verdict() -> None:
    """The page about the coursework has three differences and the times of both studies, beside each other."""
    page = (DOCS / "coursework.md").read_text(encoding="utf-8").replace("−", "-")
    stated = re.findall(r"(undecided|supported|contradicted) \((\S+), (\S+) to (\S+)\) \|", page)
    times = re.findall(r"one timing each \((\S+), (\S+), (\S+) s\)", page)
    assert (len(stated), len(times)) == (6, 2)
    own = re.compile(r"Claim, (\w+): .* \(difference (\S+) points \((\S+) to (\S+)\);")
    for column, name in enumerate(("coursework", "scitldr_a")):
        printed = printed_by("judge", str(ROOT / "results" / name))
        for (result, *figures), (found, *more) in zip(stated[column::2], own.findall(printed), strict=False):
            assert result == found
            # The verdict has two digits more of the mean than the page, and rounds them too.
            assert [float(figure) for figure in figures] == pytest.approx(list(map(float, more)), abs=0.0551)
        [timed] = re.findall(r"of unknown error: full (\S+), lora (\S+), soft_prompt (\S+)\)", printed)
        half = 0.051 if "." in times[column][0] else 0.51
        assert list(map(float, times[column])) == pytest.approx(list(map(float, timed)), abs=half)


# The first line of each output that the docs show -> what compares it with what is printed, or the page's words that
# say where it is from.
SHOWN = {
    ("commands.md", "$ tuneoff judge results/scitldr_a"): "test_output_of_judge_in_the_docs_is_what_is_printed",
    ("fairness.md", "$ tuneoff judge results/scitldr_a"): "test_output_of_judge_in_the_docs_is_what_is_printed",
    ("commands.md", "$ tuneoff check --preset starter"): "test_the_list_of_a_check_in_the_docs_is_what_is_printed",
    ("commands.md", "data    emails.csv: "): "test_the_example_of_another_task_prints_what_the_page_shows",
    ("judging.md", "docs/answers.csv: score"): "test_the_example_of_scores_prints_what_the_page_shows",
    ("judging.md", "question,passage,"): "test_the_example_of_scores_prints_what_the_page_shows",
    ("report.md", "$ tuneoff report results/scitldr_a"): "test_the_report_in_the_docs_is_what_is_printed",
    ("fairness.md", "$ tuneoff compare --preset starter"): "A small study on the starter data (on 2026-11-28, ",
    ("data.md", "emails/train.jsonl"): "A folder or an archive of splits",  # the names of files
}


def test_every_output_in_the_docs_is_compared_or_says_where_it_is_from() -> None:
    tests = "".join(
        (ROOT / "tests" / name).read_text(encoding="utf-8") for name in ("test_docs.py", "test_docs_run.py")
    )
    met = set()
    for page in COMMAND_PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(text):
            lines = block.content.splitlines()
            is_output = any(line.startswith("$ ") for line in lines) and len(lines) > 1
            if block.info not in ("", "text") and not is_output:
                continue
            known = [each for each in SHOWN if each[0] == page.name and lines[0].startswith(each[1])]
            assert len(known) == 1, (page.name, lines[0])
            where = SHOWN[known[0]]
            assert f"def {where}(" in tests or where in text, known
            met.add(known[0])
    assert met == set(SHOWN)


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
