"""`tuneoff push`: the export to send, what a dry run prints, and the address."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuneoff.checked_export import CARD, export_run
from tuneoff.cli.output import say
from tuneoff.cli.verdicts import select_run
from tuneoff.errors import UserError
from tuneoff.export.wanted import Form, Wanted
from tuneoff.hub_push import EVAL_FILE, Push, check_repository, is_export, prepare_push, send
from tuneoff.results.run_record import Record
from tuneoff.text import plural

_ADAPTERS = ("peft", "tensors", "embeddings")


@dataclass(frozen=True)
class PushFlags:
    """The flags of the command."""

    dry_run: bool
    public: bool
    dataset: str | None
    task: str
    with_texts: bool
    method: str | None
    trust_remote_code: bool


def carry_out_push(folder: Path, repository: str, flags: PushFlags) -> str:
    """Send an export, or say what would be sent. Returns what to print."""
    check_repository(repository)
    with _export_in(folder, flags) as export:
        push = prepare_push(
            export,
            repository,
            dataset=flags.dataset,
            task=flags.task,
            private=not flags.public,
            with_texts=flags.with_texts,
        )
        if push.evaluation is None:
            say("no .eval_results/: the Hub wants a data set of its own there; name it with --dataset OWNER/NAME")
        return dry_run_text(push) if flags.dry_run else send(push)


@contextmanager
def _export_in(folder: Path, flags: PushFlags) -> Iterator[Path]:
    """The folder of an export: `folder` itself, or a temporary one that the run of `folder` is exported into."""
    if is_export(folder):
        if flags.method is not None:
            raise UserError(f"{folder}: an export is of one method; leave --method out, or name the study")
        yield folder
        return
    run = select_run(folder, flags.method, None)
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch:
        export = Path(scratch) / run.name
        export_run(run, Wanted(_form(run.record)), export, documents=0, trust_remote_code=flags.trust_remote_code)
        yield export


def _form(record: Record) -> Form:
    return "adapter" if record.artefact is not None and record.artefact.format in _ADAPTERS else "merged"


def dry_run_text(push: Push) -> str:
    """What would be sent: the files with their sizes, the card and the evaluation."""
    paths = list(push.paths)
    seen = "private" if push.private else "public"
    lines = [
        f"would send {plural(len(paths), 'file')} to {push.repository} ({seen} if it has to be made); nothing was sent",
        *(f"  {size:>13,} bytes  {name}" for name, size in paths),
        "",
        f"--- {CARD}",
        (push.folder / CARD).read_text(encoding="utf-8").rstrip(),
    ]
    if push.evaluation is not None:
        lines += ["", f"--- {EVAL_FILE}", push.evaluation.rstrip()]
    return "\n".join(lines)
