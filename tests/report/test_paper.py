"""What a paper takes from a study, and how the command line prints it."""

import csv
import io
import re
from pathlib import Path

import pytest

from support.report_study import load, read_summary
from tuneoff.errors import UserError
from tuneoff.report.paper import PAPER_FORMATS, StudyInPaper, write_as


def test_the_latex_file_is_complete(rich_study: Path) -> None:
    paper = StudyInPaper.of(read_summary(rich_study), load(rich_study))
    text = paper.latex
    assert [text.count(rf"\{word}{{document}}") for word in ("begin", "end")] == [1, 1]
    opened = re.findall(r"\\begin\{(\w+\*?)\}", text)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+\*?)\}", text))
    assert text.replace(r"\{", "").replace(r"\}", "").count("{") == text.replace(r"\{", "").replace(r"\}", "").count(
        "}"
    )
    cited = {key for keys in re.findall(r"\\cite\{([^}]+)\}", text) for key in keys.split(",")}
    assert cited == set(re.findall(r"^@\w+\{([^,]+),$", text, re.MULTILINE))
    assert text.isascii()
    assert set(re.findall(r"\\ref\{([^}]+)\}", text)) == set(re.findall(r"\\label\{([^}]+)\}", text))
    # the pictures that it includes where they are copied next to it
    pictures = re.findall(r"^\\studyfigure\{(\w+)\}", text, re.MULTILINE)
    assert pictures
    assert all((rich_study / "figures" / f"{name}.png").is_file() for name in pictures)


@pytest.mark.parametrize("wanted", list(PAPER_FORMATS))
def test_each_form_is_also_on_the_page(wanted: str, rich_study: Path) -> None:
    text = write_as(wanted, read_summary(rich_study), load(rich_study))
    page = (rich_study / "report.html").read_text(encoding="utf-8")
    found = re.search(rf'<pre id="copy-{wanted}" tabindex="0">(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(sign, entity)
    assert found[1] == text


def test_markdown_has_table_and_paragraph(rich_study: Path) -> None:
    table, paragraph = write_as("markdown", read_summary(rich_study), load(rich_study)).split("\n\n")
    assert table.startswith("| Method | ROUGE-1 |")
    assert paragraph.startswith("We compared 4 ways")
    assert len(list(csv.reader(io.StringIO(write_as("csv", read_summary(rich_study), load(rich_study)))))) == 9


def test_the_paragraph_in_markdown_loads_and_links_nothing(rich_study: Path) -> None:
    bad = "![x](https://example.org/x.png) <img src=x> [y](z) `a` **b**"
    summary = read_summary(rich_study)
    data = summary.data.model_copy(update={"description": bad})
    text = write_as("markdown", summary.model_copy(update={"data": data}), load(rich_study))
    assert r"!\[x\](https://example.org/x.png) \<img src=x\> \[y\](z) \`a\` \*\*b\*\*" in text


def test_an_unknown_form_is_refused(rich_study: Path) -> None:
    with pytest.raises(UserError, match=r"--format latx: no such format; did you mean `latex`\?"):
        write_as("latx", read_summary(rich_study), load(rich_study))
