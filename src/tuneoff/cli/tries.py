"""`tuneoff try`: the page that writes with all methods of a study, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError
from tuneoff.local_page import LocalPage
from tuneoff.methods.rows import row_title
from tuneoff.report.try_page import try_page
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StudyDir
from tuneoff.side_by_side import SideBySide


def open_page(folder: Path, port: int, *, trust_remote_code: bool) -> LocalPage:
    """The server of the page for the study in `folder`. Models are loaded when they are first used.

    Raises `UserError` for a folder without a usable run, before torch is loaded.
    """
    study = StudyDir(folder).load()

    def load(run: StoredRun) -> Any:
        from tuneoff.run import load_adapted

        return load_adapted(run, trust_remote_code=trust_remote_code)

    writers = SideBySide(study, load)
    titles = {name: row_title(name) for name in writers.runs}
    return LocalPage(try_page(study.name, titles, writers.fields), {"write": lambda asked: write(writers, asked)}, port)


def write(writers: SideBySide, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a question of the page. Raises `UserError` for one that is not as the page asks it."""
    method, document, fields = (asked.get(name) for name in ("method", "document", "fields"))
    if not isinstance(method, str) or not isinstance(document, str) or not isinstance(fields, dict):
        raise UserError("a question has `method`, `document` and `fields`")
    if missing := [name for name in writers.fields if not isinstance(fields.get(name), str)]:
        raise UserError(f"the field {missing[0]} has no value")
    found = writers.write(method, document, {name: fields[name] for name in writers.fields})
    return {"text": found.text, "seconds": found.seconds, "note": found.note}
