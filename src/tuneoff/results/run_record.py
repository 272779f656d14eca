"""What happened in one run. The only reader and writer of run folders and study folders.

A run folder holds `record.json`, `predictions.jsonl`, `events.jsonl` and `artefact/`. A study folder holds
`runs/<run name>-<run id>/`, `documents.jsonl`, `study.json` (the StudySpec), `plan.json` (contents and the runs
that belong to it), `data.json` (counts and cleaning), `summary.json`, `report.html`, `figures/`.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from tuneoff.errors import UserError
from tuneoff.spec import RunSpec
from tuneoff.spec.run import Frozen

SCHEMA_VERSION = 1
# Part of every run's name: raise it when a change of the engine moves any loss, weight or generated token.
NUMERICS_VERSION = 8

BUDGET_FILE = "budget.json"
ARTEFACT = "artefact"  # a run's folder for what it leaves

Status = Literal["running", "finished", "failed", "diverged", "interrupted"]
Phase = Literal["load", "train", "evaluate", "generate"]


class Reading(Frozen):
    """A measured number with its unit and source, or no number and the reason why there is none."""

    value: float | None
    unit: str
    source: str | None = None
    reason: str | None = None


class PhaseResources(Frozen):
    """Cost of one phase. Energy covers the whole machine unless its source says otherwise."""

    wall_seconds: float
    cpu_seconds: float
    tokens: int | None = None  # tokens processed, padding not counted
    peak_memory_bytes: int  # resident set of this process, highest value seen during the phase
    accelerator_peak_bytes: Reading
    energy: Reading


class TimelinePoint(Frozen):
    """One sample, `seconds` after the start of the run. `cpu` is cores in use; `accelerator` is use in 0..1."""

    seconds: float
    phase: str
    memory_bytes: int
    cpu: float
    accelerator: float | None = None


class Resources(Frozen):
    """Cost of one run."""

    phases: dict[str, PhaseResources]
    peak_memory_bytes: int
    memory_source: str | None = None  # where the peaks come from
    threads: int
    processes: int = 1  # runs that shared the machine, this one included
    timeline: tuple[TimelinePoint, ...] = ()

    @property
    def scarce_peak_bytes(self) -> float:
        """Peak of the memory that runs out first: the accelerator's where it was measured, else the process's own."""
        readings = [phase.accelerator_peak_bytes.value for phase in self.phases.values()]
        return max((value for value in readings if value is not None), default=float(self.peak_memory_bytes))


class TrainPoint(Frozen):
    """One optimiser step. `loss` is in nats per target token."""

    step: int
    epoch: float
    seconds: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int


class ValidationPoint(Frozen):
    """Validation loss in nats per target token, after `step` optimiser steps."""

    step: int
    epoch: float
    seconds: float
    loss: float


class Curve(Frozen):
    """Losses over a run; empty for a method that trains nothing (it still has one validation point, step 0)."""

    train: tuple[TrainPoint, ...] = ()
    validation: tuple[ValidationPoint, ...] = ()
    best_step: int | None = None
    best_epoch: float | None = None
    best_validation_loss: float | None = None
    stopped_early: bool = False
    cut_at: int | None = None  # the step at which a trial was stopped, its loss being above the spec's `cut_above`


class Artefact(Frozen):
    """What a run leaves for use. `bytes` counts every file as written; `format` tensors: some of the
    base's own parameters; prompt: examples for the prompt."""

    format: Literal["peft", "transformers", "tensors", "embeddings", "prompt", "none"]
    bytes: int
    files: tuple[str, ...] = ()


class Failure(Frozen):
    """Why a run did not finish."""

    type: str
    message: str
    traceback: str | None = None


class Prediction(Frozen):
    """One generated text. `stopped` says that the model ended it itself (EOS)."""

    id: str
    text: str
    scores: dict[str, float | None] = {}
    tokens: int | None = None
    stopped: bool | None = None

    @property
    def left_out(self) -> bool:
        """Whether there was a text, which `--no-texts` kept out of the folder."""
        return not self.text and self.scores.get("empty") == 0


class Document(Frozen):
    """One test example as the report shows it."""

    id: str
    group: str
    document: str
    references: tuple[str, ...]
    fields: dict[str, str] = {}


class Record(Frozen):
    """One run: spec, status, curve, scores, resources, provenance."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    name: str  # e.g. lora-s0
    status: Status
    spec: RunSpec
    started_at: str
    finished_at: str | None = None
    failure: Failure | None = None
    curve: Curve = Curve()
    scores: dict[str, float | None] = {}  # means over the test documents, see metrics.METRICS for units
    signature: str | None = None  # the ROUGE dialect
    resources: Resources | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    artefact: Artefact | None = None
    notes: tuple[str, ...] = ()  # warnings for people: truncation, unmatched stop, dead soft prompt ...
    details: dict[str, Any] = {}  # kept by method and engine: matched modules, template, precision, cut share
    provenance: dict[str, Any] = {}  # versions, machine, commit, data and model hashes


def write_text_atomic(path: Path, text: str) -> None:
    """Write to a temporary file beside `path`, sync it, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def plain_numbers(value: Any) -> Any:
    """`value` with NaN and infinities replaced by None: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text_atomic(path, json.dumps(plain_numbers(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text_atomic(path, "".join(json.dumps(plain_numbers(row), ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file that tuneoff wrote. A broken line is a `UserError` with file and line."""
    with path.open("rb") as stream:  # decoded line by line, so that what is no text has a place too
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                why = error.msg if isinstance(error, json.JSONDecodeError) else error.reason
                message = f"{path}, line {number}: not JSON ({why}); restore the file or run again"
                raise UserError(message) from error
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: not a JSON object; restore the file or run again")
            yield row


Row = TypeVar("Row", bound=Frozen)


def read_rows(path: Path, row: type[Row]) -> list[Row]:
    """The lines of a JSONL file that tuneoff wrote, each as a `row`. Raises `UserError` for a damaged file."""
    try:
        return [row.model_validate(value) for value in read_jsonl(path)]
    except ValidationError as error:
        message = f"{path}: damaged or from another version of tuneoff; restore it or run the study again"
        raise UserError(message) from error


def write_record(folder: Path, record: Record) -> None:
    """Write `record.json` into a run folder."""
    write_json(folder / "record.json", record.model_dump(mode="json"))


def read_record(folder: Path) -> Record:
    """The record of a run folder. Raises `UserError` when there is none or it cannot be read."""
    path = folder / "record.json"
    try:
        return Record.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no record.json there; name a run folder (runs/<study>/runs/<run>)") from error
    except (ValidationError, UnicodeDecodeError) as error:
        message = f"{path}: damaged or from another version of tuneoff; delete the folder to run it again"
        raise UserError(message) from error


def write_predictions(folder: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.jsonl` into a run folder."""
    write_jsonl(folder / "predictions.jsonl", (row.model_dump(mode="json") for row in predictions))


def read_predictions(folder: Path) -> list[Prediction]:
    """The predictions of a run folder; empty when the run wrote none. Raises `UserError` for a damaged file."""
    path = folder / "predictions.jsonl"
    return read_rows(path, Prediction) if path.exists() else []


def write_documents(study: Path, documents: Iterable[Document]) -> None:
    """Write `documents.jsonl` into a study folder."""
    write_jsonl(study / "documents.jsonl", (row.model_dump(mode="json") for row in documents))


def read_documents(study: Path) -> list[Document]:
    """The test documents of a study folder, in order; their texts are empty after `--no-texts`.

    Raises `UserError` for a damaged file.
    """
    path = study / "documents.jsonl"
    return read_rows(path, Document) if path.exists() else []


def run_folders(study: Path) -> list[Path]:
    """Folders of a study that hold a record, by name. Runs that `plan.json` does not name are of an earlier plan."""
    folders = sorted(path.parent for path in (study / "runs").glob("*/record.json"))
    plan = study / "plan.json"
    if not plan.exists():
        return folders
    try:
        planned = set(json.loads(plan.read_text(encoding="utf-8"))["runs"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{plan}: damaged; delete it to see every run of the folder") from error
    return [folder for folder in folders if folder.name in planned]
