"""`tuneoff export`: what the flags ask for, where it goes, and progress of the check on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.cli.output import say
from tuneoff.errors import UserError
from tuneoff.regular_files import check_default_place
from tuneoff.spec.row_names import file_name_of
from tuneoff.text import format_duration, plural

if TYPE_CHECKING:
    from tuneoff.checked_export import ExportFile
    from tuneoff.export.wanted import Wanted
    from tuneoff.results.run_dir import StoredRun

_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class ExportDone:
    """An export and where it is."""

    folder: Path
    content: ExportFile


def asked_for(form: str, numbers: str | None, fields: Mapping[str, str]) -> Wanted:
    """What `--to`, `--quantize` and `--field` ask for. Raises `UserError` for what is unknown or does not fit."""
    from tuneoff.export.gguf_model import NUMBER_TYPES
    from tuneoff.export.wanted import FORMS, Wanted

    known = next((name for name in FORMS if name == form.lower()), None)
    if known is None:
        raise UserError(f"--to {form}: use {', '.join(FORMS)}")
    if numbers is not None and known not in ("gguf", "ollama"):
        raise UserError(f"--quantize {numbers}: only for --to gguf and --to ollama; leave it out")
    if fields and known != "ollama":
        raise UserError("--field: only for --to ollama; the code of other exports takes fields for each document")
    kind = next((name for name in NUMBER_TYPES if name == (numbers or "f16").lower()), None)
    if kind is None:
        raise UserError(f"--quantize {numbers}: use {', '.join(NUMBER_TYPES)}")
    return Wanted(known, kind, dict(fields))


def carry_out_export(
    run: StoredRun, wanted: Wanted, output: Path | None, documents: int, *, trust_remote_code: bool
) -> ExportDone:
    """Write and check an export, with progress on stderr."""
    from tuneoff.checked_export import export_run

    if output is None:
        check_default_place(default_folder(run, wanted))
    folder = output or default_folder(run, wanted)
    last_line = 0.0

    def progress(done: int, total: int, seconds: float) -> None:
        nonlocal last_line
        if done == 0:
            say(f"check: the other program loads {folder} and writes {plural(total, 'text')}")
            return
        if done == total or time.monotonic() - last_line < _SECONDS_BETWEEN_LINES:
            return
        last_line = time.monotonic()
        left = format_duration(seconds / done * (total - done))
        say(f"check: {done} of {total} documents, about {left} left")

    content = export_run(
        run, wanted, folder, documents=documents, trust_remote_code=trust_remote_code, progress=progress
    )
    return ExportDone(folder, content)


def default_folder(run: StoredRun, wanted: Wanted) -> Path:
    """`exports/<study>-<method>-<form>`, below the current folder."""
    study = run.dir.path.resolve().parent.parent.name
    return Path("exports") / f"{study}-{file_name_of(run.record.spec.method.name)}-{wanted.form}"
