"""The site: every page is in the navigation, every link leads somewhere, and it builds without a warning."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

import tuneoff

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_spec = spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
assert _spec is not None
assert _spec.loader is not None
site_hooks = module_from_spec(_spec)
_spec.loader.exec_module(site_hooks)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def navigation(entry: object) -> list[str]:
    """The pages of a part of `nav`."""
    if isinstance(entry, str):
        return [entry]
    assert isinstance(entry, list | dict)
    parts = entry if isinstance(entry, list) else entry.values()
    return [page for part in parts for page in navigation(part)]


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The ids of a page's headings, as GitHub and MkDocs make them."""
    code = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", code, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_every_page_is_in_the_navigation_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    there = [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert sorted(navigation(settings["nav"])) == sorted([*there, *site_hooks.ROOT_PAGES.values()])
    assert settings["strict"] is True


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: ([\w.]+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.rpartition(".")[2] for name in named} == {*tuneoff.__all__} - {"METHODS"}
    for name in named:
        module, _, own = name.rpartition(".")
        assert getattr(sys.modules.get(module) or __import__(module, fromlist=[own]), own) is getattr(tuneoff, own)


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("a.md", "[x](data.md#csv)", "[x](data.md#csv)"),
        ("methods/lora.md", "[x](../commands.md)", "[x](../commands.md)"),
        ("a.md", "[x](../SECURITY.md)", "[x](security.md)"),
        ("methods/lora.md", "[x](../../README.md)", f"[x](../{site_hooks.HOME})"),
        ("changes.md", "[x](docs/data.md)", "[x](data.md)"),
        ("a.md", "[x](../examples/cluster)", "x (`examples/cluster`)"),
        ("a.md", "[x](missing.md)", "[x](missing.md)"),
        ("a.md", "[x](https://example.org/a.md)", "[x](https://example.org/a.md)"),
        ("a.md", "![x](report.png)", "![x](report.png)"),
        ("a.md", "```sh writes a.gz b.zip\nx\n```", "```sh\nx\n```"),
        ("a.md", "```jsonl a.jsonl\n{}\n```", '```jsonl title="a.jsonl"\n{}\n```'),
    ],
)
def test_links_as_the_site_has_them(page: str, text: str, expected: str) -> None:
    assert site_hooks.for_site(text, page) == expected


def test_what_the_site_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.match(r"[\w-]+", need)[0] for need in project["optional-dependencies"]["docs"]]  # type: ignore[index]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert [name for name in [*names, "mkdocs"] if not re.search(rf"^{name}==", pins, re.MULTILINE)] == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="no mkdocs: `make docs` installs it")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page.relative_to(tmp_path / "site").with_suffix(".md") for page in (tmp_path / "site").rglob("*.html")}
    assert {page.relative_to(DOCS) for page in PAGES} <= pages
    assert "https://fonts" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")  # no other server


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="no actionlint")
def test_workflows_are_sound() -> None:
    subprocess.run(["actionlint", *sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))], check=True)
