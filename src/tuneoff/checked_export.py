"""A run as files for another program, with what they lose there."""

from __future__ import annotations

import gc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.data.starter import HUB_NAME, HUB_REVISION
from tuneoff.errors import UserError
from tuneoff.export.card_runner import CardFailed
from tuneoff.export.export_card import CardFacts, export_card
from tuneoff.export.export_check import (
    ExportCheck,
    Progress,
    check_export,
    choose_documents,
    named_version,
    no_progress,
)
from tuneoff.export.wanted import Form, Wanted, check_wanted
from tuneoff.regular_files import read_limited
from tuneoff.results.json_files import json_text, parse_json, write_text_atomic
from tuneoff.results.run_dir import StoredRun, settle_files
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.writable_folders import check_no_link_between
from tuneoff.saved_tensors import saving
from tuneoff.spec.run import Frozen
from tuneoff.temporary_folder import temporary_folder
from tuneoff.verdict.judge import judge_study, planned_metric

if TYPE_CHECKING:
    from tuneoff.export.export_files import ExportCode

CARD, EXPORT_FILE = "README.md", "export.json"
_PROGRAMS: dict[Form, tuple[str, ...]] = {
    "adapter": ("transformers", "peft"),
    "merged": ("transformers",),
    "gguf": ("llama-cpp-python",),
    "ollama": ("llama-cpp-python",),
}
INSTALL_LLAMA_CPP = "pip install 'tuneoff[gguf-check]'"
DOCUMENTS_TO_CHECK = 100
_DOCUMENT = "DOCUMENT"
_MOST_BYTES = 10_000_000  # of `export.json`


class StudyFacts(Frozen):
    """What the study of an export found."""

    name: str
    metric: str
    score: float | None
    """Mean of the run over its test documents, in the unit of the metric."""
    documents: int
    signature: str | None
    date: str
    dataset: str | None
    """Name of the data on the Hub, if they are known to be there."""
    dataset_revision: str | None
    verdict: tuple[str, ...]
    """The sentences of the verdict on the base model."""


class ExportFile(Frozen):
    """`export.json`: what was exported, and what the check found."""

    run: str
    method: str
    form: Form
    numbers: str
    """Type of the weights, such as `bfloat16` or `q8_0`."""
    check: ExportCheck | None
    unchecked: str | None
    """Why there is no check."""
    holds_documents: bool = False
    """Whether the prompt, which card and Modelfile show, has documents of the training data in it."""
    study: StudyFacts | None = None

    @property
    def sentence(self) -> str:
        """What the card and the command line say about the check."""
        return f"Checked: it {self.check.sentence}." if self.check else f"Not checked: {self.unchecked}."


def read_export(folder: Path) -> ExportFile:
    """`export.json` of a folder. Raises `UserError` if it is damaged or none of ours, `OSError` if it is not there."""
    path = folder / EXPORT_FILE
    return parse_json(read_limited(path, _MOST_BYTES), path, ExportFile, "export the run again")


def export_run(
    run: StoredRun,
    wanted: Wanted,
    folder: Path,
    *,
    documents: int = DOCUMENTS_TO_CHECK,
    trust_remote_code: bool = False,
    progress: Progress = no_progress,
) -> ExportFile:
    """Write an export of `run` into a new `folder`, and check it on test documents, at most `documents` (0: none).

    An export of the same run and form that was not checked is written again, so an interrupted command can be repeated.
    Raises `UserError` for what cannot be exported, before a model is loaded, and for a folder that is not empty.
    """
    from tuneoff.run import check_usable

    check_usable(run, trust_remote_code=trust_remote_code)
    check_wanted(run.record, wanted)
    _check_place(folder, run)
    asked, folder = folder, folder.resolve()  # `.` has neither a name nor a parent
    # What lies in the study came with it, and may say anything.
    again = not folder.is_relative_to(_folder_of_study(run)) and _is_unchecked(folder, run, wanted)
    if not again and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {asked}: exists already; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent) as temporary:
        written = temporary / "export"
        written.mkdir()
        with saving(folder):
            facts, code = _write(run, wanted, folder.name, written)
        gc.collect()  # the other program needs the memory
        _write_card(written, facts, _file_of(run, facts, None, "the check was interrupted"))
        settle_files(written)
        if folder.exists():  # file by file: what else lies there is not ours
            targets = {path: folder / path.relative_to(written) for path in written.rglob("*") if path.is_file()}
            for target in targets.values():
                check_no_link_between(folder, target)
            for path, target in targets.items():
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
        else:
            written.rename(folder)
    check, unchecked = _check(run, wanted, folder, code.check, documents, progress)
    content = _file_of(run, facts, check, unchecked)
    _write_card(folder, facts, content)
    return content


def _check_place(folder: Path, run: StoredRun) -> None:
    """Raise `UserError` if a link in the study of `run` makes an export to `folder` below it one elsewhere."""
    place, study = Path(os.path.abspath(folder)), _folder_of_study(run)  # noqa: PTH100 - keeps links
    for path in (place, *place.parents):
        if path.is_symlink() and path.parent.resolve().is_relative_to(study):
            raise UserError(
                f"{path}: a link in the study's folder, to {os.path.realpath(path)}; name that with --output if the "
                "export is to be there"
            )


def _is_unchecked(folder: Path, run: StoredRun, wanted: Wanted) -> bool:
    """Whether `folder` holds an export of the same run and form that was not checked."""
    try:
        found = read_export(folder)
    except (OSError, UserError):
        return False
    same = found.run == run.name and found.form == wanted.form
    return same and found.check is None and (not wanted.has_gguf or found.numbers == wanted.numbers)


def _write(run: StoredRun, wanted: Wanted, name: str, folder: Path) -> tuple[CardFacts, ExportCode]:
    import torch

    from tuneoff.export.export_files import write_files
    from tuneoff.run import restore_run

    computed_in = run.record.details.dtype or ""
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(computed_in, torch.float32)
    restored = restore_run(run, torch.device("cpu"), dtype)
    prompt = restored.prompter.as_text(_DOCUMENT)
    code = write_files(run, restored.adapted, restored.base, restored.prompter, wanted, name, folder)
    numbers = wanted.numbers if wanted.has_gguf else str(dtype).removeprefix("torch.")
    return CardFacts(run.record, wanted, numbers, prompt, code.card), code


def _file_of(run: StoredRun, facts: CardFacts, check: ExportCheck | None, unchecked: str | None) -> ExportFile:
    artefact = run.record.artefact
    return ExportFile(
        run=run.name,
        method=run.record.spec.method.name,
        form=facts.wanted.form,
        numbers=facts.numbers,
        check=check,
        unchecked=unchecked,
        holds_documents=artefact is not None and artefact.format == "prompt",
        study=_study_facts(run),
    )


def _study_facts(run: StoredRun) -> StudyFacts | None:
    """What the study of a run found; None for a run outside of a study."""
    folder = _study_of(run)
    if folder is None:
        return None
    study, record = folder.load(), run.record
    metric = planned_metric(study)
    judged = [one.verdict for one in judge_study(study)]
    verdict = next((one for one in judged if one.block in (None, record.spec.model.name)), None)
    starter = record.spec.data.source == "starter"
    return StudyFacts(
        name=study.name,
        metric=metric,
        score=record.scores.get(metric),
        documents=len(run.predictions),
        signature=record.signature,
        date=record.started_at[:10],
        dataset=HUB_NAME if starter else None,
        dataset_revision=HUB_REVISION if starter else None,
        verdict=verdict.sentences if verdict is not None else (),
    )


def _folder_of_study(run: StoredRun) -> Path:
    """What came with the run: the folder that `runs/` is in, or that of the run alone."""
    path = run.dir.path.resolve()
    return path.parent.parent if path.parent.name == "runs" else path


def _study_of(run: StoredRun) -> StudyDir | None:
    folder = StudyDir(_folder_of_study(run))
    return folder if folder.is_study() else None


def _write_card(folder: Path, facts: CardFacts, content: ExportFile) -> None:
    verdict = content.study.verdict if content.study is not None else ()
    write_text_atomic(folder / CARD, export_card(facts, content.sentence, verdict))
    write_text_atomic(folder / EXPORT_FILE, json_text(content))


def _check(
    run: StoredRun, wanted: Wanted, folder: Path, code: str, most: int, progress: Progress
) -> tuple[ExportCheck | None, str | None]:
    """The check, or why there is none."""
    if most == 0:
        return None, "it was not asked for"
    if wanted.has_gguf and find_spec("llama_cpp") is None:
        return None, f"llama-cpp-python is not installed ({INSTALL_LLAMA_CPP}, then export again)"
    study = _study_of(run)
    rows = choose_documents(study.read_documents(), run.predictions, wanted.fields, most) if study else []
    if study is None or not rows:
        return None, "the run is not in a study folder with test documents and their texts"
    base_file = Path(run.record.spec.model.name).expanduser()
    base_folder = base_file.absolute().parent if base_file.suffix == ".gguf" else None
    metric = planned_metric(study.load())
    program = " and ".join(named_version(package) for package in _PROGRAMS[wanted.form])
    progress(0, len(rows), 0.0)  # until the first text, the program is loaded
    try:
        check = check_export(code, program, folder, base_folder, run.record, metric, rows, progress)
    except CardFailed as error:
        return None, f"{program} failed ({error})"
    return check, None
