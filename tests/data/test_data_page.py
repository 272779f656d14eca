"""The page about data: every example of it is read, and says what the page says."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuneoff.data.columns import find_columns, to_example
from tuneoff.data.files import JSON_SUFFIXES, READERS, open_file
from tuneoff.data.source_table import SourceTable

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+) (.+)\n((?:.*\n)*?)```$", re.MULTILINE)
FILES = {names: content for language, names, content in BLOCK.findall(PAGE) if language not in ("python", "sh")}
PROGRAMS = [
    (language, names.removeprefix("writes ").split(), content)
    for language, names, content in BLOCK.findall(PAGE)
    if language in ("python", "sh")
]
PAIRS = [
    ("My order 1182 arrived without the charger; can you send one?", ("Order 1182: no charger",)),
    ('Is the "Pro" model back in May, or later?', ("Pro: back in May?",)),
]
REFERENCES = [(PAIRS[1][0], ("Pro: back in May?", "Pro model in May"))]


def pairs_of(table: SourceTable) -> Iterator[tuple[str, tuple[str, ...]]]:
    found = find_columns(table, None, None)
    for row in found.table.rows:
        example = to_example(row, found.columns, "train")
        assert isinstance(example, tuple)
        yield example[0].document, example[0].references


@pytest.mark.parametrize("name", FILES)
def test_every_example_is_read_as_the_page_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    assert list(pairs_of(open_file(str(path)))) == (REFERENCES if name.startswith("references-") else PAIRS)


def test_what_the_programs_of_the_page_write_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    monkeypatch.chdir(tmp_path)
    for name in ("emails.csv", "emails.jsonl"):
        Path(name).write_text(FILES[name], encoding="utf-8")
    written = [name for _, names, _ in PROGRAMS for name in names]
    for language, _, content in PROGRAMS:
        if language == "python":
            exec(content, {})
            continue
        for line in content.splitlines():
            program, *arguments = shlex.split(line)
            subprocess.run([sys.executable if program == "python" else program, *arguments], check=True)
    assert written == ["emails.parquet", "emails.xlsx", "emails.jsonl.gz", "emails.zip"]
    for name in written:
        assert list(pairs_of(open_file(name))) == PAIRS


def test_every_extension_that_is_read_is_on_the_page() -> None:
    examples = {Path(name).suffix for name in FILES} | {Path(name).suffix for _, names, _ in PROGRAMS for name in names}
    assert {*READERS} - examples - {*JSON_SUFFIXES} == {".tsv"}
    assert all(f"`{suffix}`" in PAGE for suffix in (*JSON_SUFFIXES, ".csv", ".tsv", ".xlsx"))


def test_links_to_examples_lead_to_headings() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", PAGE, re.M)
    }
    assert {*re.findall(r"\]\(#([^)]+)\)", PAGE)} <= headings
