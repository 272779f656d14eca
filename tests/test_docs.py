"""The docs keep pace with the registry."""

import re
from pathlib import Path

import pytest

from tuneoff.methods import METHODS, defaults
from tuneoff.methods.peft_type import PeftAdapter

DOCS = Path(__file__).parent.parent / "docs"
HEADINGS = ["What it is", "When to use it", "Hyper-parameters", "Cost", "What it leaves", "Traps"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page_with_the_same_headings(name):
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    for hyperparameter in defaults(name):
        assert f"`{hyperparameter}`" in page


@pytest.mark.parametrize("name", METHODS)
def test_stated_ranges_are_those_of_the_code(name):
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    for hyperparameter, (low, high) in METHODS[name].search.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{hyperparameter}`"))
        stated = [float(number) for number in re.findall(r"\d+e-\d+", row)]
        assert stated[:3] == [defaults(name)[hyperparameter], low, high]


def test_no_page_of_a_method_that_is_gone():
    assert {path.stem for path in (DOCS / "methods").glob("*.md")} == {*METHODS, "peft"}


def test_the_page_of_any_adapter_has_the_same_headings_and_the_range_of_the_code():
    page = (DOCS / "methods" / "peft.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    row = next(line for line in page.splitlines() if line.startswith("| `learning_rate`"))
    low, high = PeftAdapter.search["learning_rate"]
    assert [float(number) for number in re.findall(r"\d+e-\d+", row)] == [PeftAdapter.learning_rate, low, high]
