"""Flags of other programs: no name is in two tables, none is a flag of ours."""

import pytest

from tuneoff.cli.flags import ALIASES, STUDY_FLAGS
from tuneoff.cli.foreign_flags import IN_COMMAND, INSTEAD, WITHOUT_EFFECT, answer


def test_each_name_has_one_answer() -> None:
    ours = {flag.name for flag in STUDY_FLAGS} | {f"--{alias}" for alias in ALIASES}
    assert not set(INSTEAD) & set(WITHOUT_EFFECT)
    assert not ours & set(WITHOUT_EFFECT)
    assert not (ours - {"--learning-rate"}) & set(INSTEAD)


@pytest.mark.parametrize("name", [*INSTEAD, *WITHOUT_EFFECT, *(name for own in IN_COMMAND.values() for name in own)])
def test_names_are_in_the_main_spelling(name: str) -> None:
    assert name == name.lower().replace("_", "-")
    assert name.startswith("--")


def test_answers_fit_the_command() -> None:
    assert "greedy" in (answer("compare", "--temperature") or "")
    assert "as in the study" in (answer("summarize", "--temperature") or "")
    assert answer("judge", "--temperature") is None
    assert "report.html" in (answer("report", "--output") or "")
