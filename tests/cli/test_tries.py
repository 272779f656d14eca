"""`tuneoff try`: from the folder of a study to the answers of its page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.stored_study import stored_study
from tuneoff.cli import main
from tuneoff.cli.tries import open_page, write
from tuneoff.errors import UserError
from tuneoff.local_page import LocalPage
from tuneoff.side_by_side import SideBySide, WrittenText


def test_the_command_prints_the_address_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored_study(tmp_path, monkeypatch)

    def interrupted(page: LocalPage) -> None:
        page._server.server_close()
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalPage, "serve", interrupted)
    assert main(["try", "study"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("http://127.0.0.1:")
    assert "Ctrl-C" in printed.err


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        open_page(tmp_path, 0, trust_remote_code=False)


def test_questions_are_checked() -> None:
    def writes(method: str, document: str, fields: dict[str, str]) -> WrittenText:
        return WrittenText(f"{method} {document} {fields}", 1.0, "")

    writers = cast(SideBySide, SimpleNamespace(fields=("aspect",), write=writes))
    asked: dict[str, Any] = {"method": "lora", "document": "a", "fields": {"aspect": "b", "other": "c"}}
    assert write(writers, asked) == {"text": "lora a {'aspect': 'b'}", "seconds": 1.0, "note": ""}
    changes: list[dict[str, Any]] = [{"method": 1}, {"document": None}, {"fields": []}]
    for change in changes:
        with pytest.raises(UserError, match="a question has"):
            write(writers, asked | change)
    with pytest.raises(UserError, match="the field aspect has no value"):
        write(writers, asked | {"fields": {"aspect": 3}})
