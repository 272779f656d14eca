"""BibTeX entries: every method has one that a parser reads, and a text cites it by authors and year."""

import re

import pytest

from tuneoff.methods import METHODS, SoftPrompt
from tuneoff.report import bibliography
from tuneoff.report.bibliography import as_bibtex, method_entries, parse_entries

OWN = [one for one in vars(bibliography).values() if isinstance(one, bibliography.BibEntry)]


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_can_be_cited(name: str) -> None:
    entries = method_entries(name)
    assert entries
    assert as_bibtex(entries).strip() == METHODS[name].citation.strip()
    year = re.search(r"\b(\d{4})\b", METHODS[name].source)
    assert year is not None
    # A preprint and its publication can be a year apart.
    assert 0 <= int(entries[0].short[-4:]) - int(year[1]) <= 1
    assert entries[0].short.startswith(METHODS[name].source.split()[0])


def test_keys_are_unique_and_braces_are_balanced() -> None:
    entries = {*OWN, *(entry for name in METHODS for entry in method_entries(name))}
    assert len({entry.key for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.bibtex.count("{") == entry.bibtex.count("}")
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+) = \{", entry.bibtex, re.MULTILINE))


def test_a_text_cites_one_two_or_more_authors() -> None:
    assert [bibliography.BEST.short, bibliography.LOOKS.short, bibliography.ALL_PAIRS.short] == [
        "Hsu, 1996",
        "Jennison and Turnbull, 2000",
        "Hothorn et al., 2008",
    ]
    assert method_entries("few_shot")[0].short == "Brown et al., 2020"
    assert bibliography.TUNEOFF.short == "The tuneoff authors, 2026"


def test_an_entry_that_is_cited_twice_is_listed_once() -> None:
    twice = as_bibtex([*method_entries("soft_prompt"), *method_entries("soft_prompt_after")])
    assert twice.strip() == SoftPrompt.citation.strip()
    assert method_entries("lora@r=64") == method_entries("lora")
    assert parse_entries("") == method_entries("a_method_of_nobody") == ()
