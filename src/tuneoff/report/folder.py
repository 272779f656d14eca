"""What the report reads from a study folder, checked once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tuneoff.errors import UserError
from tuneoff.results.run_record import Document, Prediction, Record, read_jsonl, read_record, run_folders
from tuneoff.spec import StudySpec
from tuneoff.verdict.costs import Place, timing_of

Model = TypeVar("Model", bound=BaseModel)


class _Loose(BaseModel):
    """A later version of tuneoff may say more; what it adds is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Interval(_Loose):
    """A mean with its 95 % bootstrap interval over document groups; no number is None."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


class Row(_Loose):
    """One row of the comparison: a method on a model, an extractive baseline or an outside system."""

    name: str
    title: str
    kind: Literal["method", "extractive", "outside"]
    model: str | None = None
    seeds: int = 1
    status: dict[str, int] = {}
    runs: tuple[str, ...] = ()
    scores: dict[str, Interval] = {}
    gain_over_zero_shot: dict[str, Interval | None] = {}
    costs: dict[str, Any] = {}  # numbers or None, and "reasons": cost -> why there is no number
    best_epoch: float | None = None
    validation_loss: float | None = None
    notes: tuple[str, ...] = ()

    def score(self, metric: str) -> Interval:
        """A score, empty where the row has none."""
        return self.scores.get(metric, Interval())

    def cost(self, name: str) -> float | None:
        """A cost in its base unit (seconds, bytes, joules ...), None where it was not measured."""
        value = self.costs.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def reason(self, name: str) -> str | None:
        """Why a cost has no number."""
        reasons = self.costs.get("reasons")
        value = reasons.get(name) if isinstance(reasons, dict) else None
        return str(value) if value else None


class Data(_Loose):
    """What the study was run on."""

    description: str = ""
    counts: dict[str, int] = {}
    cleaning: tuple[str, ...] = ()


class Verdict(_Loose):
    """What the statistics say, in sentences."""

    sentences: tuple[str, ...] = ()


class SizePoint(_Loose):
    """One method at one amount of data."""

    examples: int
    mean: float


class SizeCurve(_Loose):
    """A method over amounts of data."""

    method: str
    points: tuple[SizePoint, ...] = ()


class BandPoint(_Loose):
    """A pair's difference at one amount of data."""

    examples: int
    difference: float
    low: float
    high: float


class Crossover(_Loose):
    """A pair over amounts of data."""

    first: str
    second: str
    band: tuple[BandPoint, ...] = ()


class DataSizes(_Loose):
    """What the statistics say about amounts of data, for one model."""

    block: str | None = None
    curves: tuple[SizeCurve, ...] = ()
    crossovers: tuple[Crossover, ...] = ()
    sentences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Rung(_Loose):
    """A look at a halved trial before its end."""

    step: int
    validation_loss: float | None = None


class Saved(_Loose):
    """What halving spared a search, against trials that all go to their ends."""

    steps: int
    seconds: float | None = None


class TriedValue(_Loose):
    """One trial."""

    value: Any
    validation_loss: float | None = None
    status: str = ""
    steps: int | None = None
    seconds: float | None = None
    cut_at: int | None = None
    rungs: tuple[Rung, ...] = ()

    @property
    def loss_when_cut(self) -> float | None:
        """Validation loss at the rung that stopped it."""
        return next((rung.validation_loss for rung in self.rungs if rung.step == self.cut_at), None)


class SearchCell(_Loose):
    """The trials of one method at one share of the data."""

    model: str
    method: str
    fraction: float = 1.0
    hyperparameter: str
    trials: tuple[TriedValue, ...] = ()
    reserve_because: str | None = None
    chosen: Any = None
    on_edge: bool | None = None
    saved: Saved | None = None

    @property
    def steps(self) -> int:
        """Optimiser steps of all trials together."""
        return sum(trial.steps or 0 for trial in self.trials)

    @property
    def seconds(self) -> float | None:
        """Time of all trials together; None while one has none."""
        known = [trial.seconds for trial in self.trials if trial.seconds is not None]
        return sum(known) if known and len(known) == len(self.trials) else None


class Search(_Loose):
    """How settings were chosen."""

    cells: tuple[SearchCell, ...] = ()

    @property
    def halved(self) -> bool:
        """Whether bad trials were cut early."""
        return any(cell.saved for cell in self.cells)


class Claim(_Loose):
    """A claim that was written down beforehand, judged."""

    text: str
    outcome: str
    why: str = ""
    model: str | None = None


class Finding(_Loose):
    """Something that a health check has seen."""

    check: str
    where: str
    message: str


class Mixed(_Loose):
    """Something in which the runs of a model were not computed alike."""

    model: str
    changes_scores: bool = False
    description: str


class Budget(_Loose):
    """How the study was fitted into its time; a `problem` alone where the plan cannot be told."""

    problem: str | None = None
    budget_seconds: float | None = None
    equal: str = "examples"
    given_up: tuple[str, ...] = ()
    steps: dict[str, int] = {}
    fits: bool = True
    planned_seconds: float | None = None
    took_seconds: float | None = None


class FailedRun(_Loose):
    """A run that did not finish."""

    run: str
    message: str


class Use(_Loose):
    """The run that the study hands over."""

    run: str
    title: str
    model: str
    seed: int
    why: str = ""
    card: bool = False


class Summary(_Loose):
    """`summary.json`."""

    name: str
    created_at: str = ""
    tuneoff_version: str = ""
    signature: str | None = None
    machine: dict[str, Any] = {}
    data: Data = Data()
    rows: tuple[Row, ...] = ()
    verdict: Verdict | None = None
    use: Use | None = None
    failures: tuple[FailedRun, ...] = ()
    data_sizes: tuple[DataSizes, ...] = ()
    search: Search | None = None
    budget: Budget | None = None
    mixed: tuple[Mixed, ...] = ()
    health: tuple[Finding, ...] = ()
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class StudyFolder:
    """A study as read from disk. `predictions` and `records` are keyed by run folder name; `other_predictions` by the
    name of an extractive baseline or outside system."""

    path: Path
    spec: StudySpec
    summary: Summary
    records: dict[str, Record]
    predictions: dict[str, list[Prediction]]
    other_predictions: dict[str, list[Prediction]]
    documents: list[Document]
    timing: dict[Place, Record]  # what runs cost alone, where they shared the machine


def _read(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        message = f"{path.parent}: no {path.name} there; name a study folder, such as the --output of `tuneoff compare`"
        raise UserError(message) from error
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError) as error:
        message = f"{path}: damaged or from another version of tuneoff; run `tuneoff compare` again to rewrite it"
        raise UserError(message) from error


def _rows(path: Path, row: type[Model]) -> list[Model]:
    """The rows of a JSONL file; none when there is no file."""
    if not path.is_file():
        return []
    try:
        return [row.model_validate(value) for value in read_jsonl(path)]
    except ValidationError as error:
        message = f"{path}: damaged or from another version of tuneoff; run `tuneoff compare` again to rewrite it"
        raise UserError(message) from error


def read_study(folder: Path) -> StudyFolder:
    """Everything that the report needs. Raises `UserError` when the folder is no study or a file in it is damaged."""
    spec = _read(folder / "study.json", StudySpec)
    summary = _read(folder / "summary.json", Summary)
    records = {run: read_record(run) for run in run_folders(folder)}
    other: dict[str, list[Prediction]] = {}
    for row in summary.rows:
        place = {"extractive": "baselines", "outside": "outside"}.get(row.kind)
        path = folder / place / f"{row.name}.jsonl" if place else None
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            other[row.name] = _rows(path, Prediction)
    return StudyFolder(
        path=folder,
        spec=spec,
        summary=summary,
        records={run.name: record for run, record in records.items() if record.spec.is_main},
        predictions={
            run.name: _rows(run / "predictions.jsonl", Prediction)
            for run, record in records.items()
            if record.spec.is_main
        },
        other_predictions=other,
        documents=_rows(folder / "documents.jsonl", Document),
        timing=timing_of(records.values()),
    )
