"""What `tuneoff check` prints."""

import json
from pathlib import Path

import pytest

from tuneoff.cli import main
from tuneoff.cli.checks import items_as_text
from tuneoff.study.checklist import Item

ITEMS = [Item("data", True, "3 pairs"), Item("model", False, "none\x1b[2J"), Item("minutes", None, "not measured")]


@pytest.mark.parametrize(("encoding", "ticks"), [("utf-8", "✓✗–"), ("ascii", None), (None, None), ("cp1252", None)])
def test_ticks_are_those_that_the_terminal_can_show(encoding: str | None, ticks: str | None) -> None:
    lines = items_as_text(ITEMS, encoding).splitlines()
    assert [line.split()[0] for line in lines] == (list(ticks) if ticks else ["ok", "NO", "--"])
    assert "\x1b" not in lines[1]


def test_check_says_what_is_wrong_in_its_exit_code(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *tiny]) == 0
    assert "exactly those of its architecture" in capsys.readouterr().out
    assert main(["check", *tiny, "--set=lora.target_modules=query", "--json"]) == 2
    items = json.loads(capsys.readouterr().out)["items"]
    assert [item["name"] for item in items if item["passed"] is False] == ["lora"]
    assert list(Path.cwd().iterdir()) == []
