"""The numbers of a study in one JSON file: what the report draws and what `--json` prints."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tuneoff import __version__
from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.metrics import METRICS, means
from tuneoff.results.baselines import EXTRACTIVE_ROWS
from tuneoff.results.run_record import (
    Prediction,
    Record,
    plain_numbers,
    read_documents,
    read_predictions,
    read_record,
    read_rows,
    run_folders,
    write_json,
)
from tuneoff.results.verdict import Verdict
from tuneoff.stats.bootstrap import group_interval
from tuneoff.study.budget_file import told
from tuneoff.verdict.confounds import find_confounds
from tuneoff.verdict.costs import as_alone, place, timing_of
from tuneoff.verdict.diagnostics import diagnose
from tuneoff.verdict.judge import DECIDES, judge_study
from tuneoff.verdict.load import outside_files
from tuneoff.verdict.scores import Cost, group_indices
from tuneoff.verdict.selection import choose


@dataclass(frozen=True)
class _Run:
    folder: Path
    record: Record
    predictions: list[Prediction]
    timed: bool = False  # its costs come from a timing run


def summarize(study: Path) -> dict[str, Any]:
    """Read a study folder, write its `summary.json` and return it. Raises `UserError` for a damaged folder."""
    records = {folder: read_record(folder) for folder in _planned(study)}
    timing = timing_of(records.values())
    runs = [
        _Run(folder, as_alone(record, timing.get(place(record))), read_predictions(folder), place(record) in timing)
        for folder, record in records.items()
        if record.spec.is_main
    ]
    groups = {document.id: document.group for document in read_documents(study)}
    judged = {whole.scores.block: whole for whole in judge_study(study)} if runs else {}
    rows: list[dict[str, Any]] = []
    for model in sorted({run.record.spec.model.name for run in runs}):
        own = [run for run in runs if run.record.spec.model.name == model]
        whole = judged.get(model) or judged[None]
        rows += _method_rows(model, own, groups, whole.verdict, whole.scores.costs)
    rows += _other_rows(study, groups)
    searched = _read(study / "study.json").get("trials", 1)  # a file of an earlier choice may lie there
    search = _read(study / "search.json") if searched else {}
    about = _read(study / "data.json")
    finals = [(record, read_predictions(folder)) for folder, record in records.items() if record.spec.role == "final"]
    summary = {
        "name": _read(study / "study.json").get("name", study.name),
        "created_at": max(filter(None, (record.finished_at for record in records.values())), default=_now()),
        "tuneoff_version": __version__,
        "primary_metric": DECIDES,
        "signature": next((run.record.signature for run in runs), None),
        "machine": next((run.record.provenance["machine"] for run in runs if "machine" in run.record.provenance), {}),
        "data": about,
        "rows": rows,
        "verdict": _verdict([whole.verdict for whole in judged.values()]),
        "use": winner.model_dump(mode="json") if (winner := choose(judged.values(), records)) else None,
        "claims": [
            {"model": block, **claim.model_dump(mode="json")}
            for block, whole in judged.items()
            for claim in whole.claims
        ],
        "data_sizes": [whole.sizes.model_dump(mode="json") for whole in judged.values() if whole.sizes],
        "search": search or None,
        "budget": told(study, records.values()),
        "mixed": [confound.model_dump(mode="json") for confound in find_confounds(records.values())],
        "health": [finding.model_dump(mode="json") for finding in diagnose(finals, search, about)],
        "failures": [
            {"run": folder.name, "message": record.failure.message if record.failure else record.status}
            for folder, record in records.items()
            if record.status != "finished" and not (record.spec.role == "trial" and record.status == "diverged")
        ],
    }
    plain: dict[str, Any] = plain_numbers(summary)
    write_json(study / "summary.json", plain)
    return plain


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _planned(study: Path) -> list[Path]:
    """The runs of the study as it is now; a folder may hold others, of an earlier choice of methods."""
    named = _read(study / "plan.json").get("runs")
    folders = run_folders(study)
    return folders if named is None else [folder for folder in folders if folder.name in set(named)]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path}: damaged; restore it or run the study again") from error
    return value if isinstance(value, dict) else {}


def _verdict(verdicts: Sequence[Verdict]) -> dict[str, Any] | None:
    if not verdicts:
        return None
    sentences = []
    for verdict in verdicts:
        lead = f"{verdict.block}: " if verdict.block else ""
        sentences += [lead + sentence for sentence in verdict.sentences]
    return {"sentences": sentences, "blocks": [verdict.model_dump(mode="json") for verdict in verdicts]}


def _method_rows(
    model: str,
    runs: Sequence[_Run],
    groups: Mapping[str, str],
    verdict: Verdict,
    costs: Mapping[str, Mapping[str, Cost]],
) -> Iterable[dict[str, Any]]:
    order = list(METHODS)
    for method in sorted(
        {run.record.spec.method.name for run in runs},
        key=lambda name: (order.index(name) if name in order else len(order), name),
    ):
        own = [run for run in runs if run.record.spec.method.name == method]
        finished = [run for run in own if run.record.status == "finished"]
        losses = [run.record.curve.best_validation_loss for run in finished]
        epochs = [run.record.curve.best_epoch for run in finished]
        yield {
            "name": method,
            "title": METHODS[method].title if method in METHODS else method,
            "kind": "method",
            "model": model,
            "seeds": len(own),
            "status": dict(Counter(run.record.status for run in own)),
            "runs": [run.folder.name for run in own],
            "scores": _scores([run.predictions for run in finished], groups),
            "gain_over_zero_shot": {DECIDES: _gain(method, verdict)},
            "costs": _costs(finished, costs.get(method, {})),
            "best_epoch": _mean(epochs) if method not in METHODS or METHODS[method].trains else None,
            "validation_loss": _mean(losses),
            "notes": list(dict.fromkeys([*(note for run in own for note in run.record.notes), *_shared(finished)])),
        }


def _shared(runs: Sequence[_Run]) -> list[str]:
    """Costs of runs that had company are not those of a run alone."""
    most = max((run.record.resources.processes for run in runs if run.record.resources), default=1)
    if most == 1:
        return []
    if all(run.timed for run in runs):
        return [f"{most} runs shared the machine; time, energy and tokens/s are those of a timing run alone"]
    return [f"time, energy and tokens/s were measured while {most} runs shared the machine"]


def _other_rows(study: Path, groups: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    baselines = [study / "baselines" / f"{name}.jsonl" for name in EXTRACTIVE_ROWS]
    for kind, files in (
        ("extractive", [path for path in baselines if path.exists()]),
        ("outside", outside_files(study)),
    ):
        paths = {path.stem: path for path in files}
        for name in paths:
            predictions = read_rows(paths[name], Prediction)
            yield {
                "name": name,
                "title": name,
                "kind": kind,
                "model": None,
                "seeds": 1,
                "status": {},
                "runs": [],
                "scores": _scores([predictions], groups),
                "gain_over_zero_shot": {},
                "costs": {},
                "best_epoch": None,
                "validation_loss": None,
                "notes": [],
            }


def _scores(seeds: Sequence[Sequence[Prediction]], groups: Mapping[str, str]) -> dict[str, Any]:
    """Mean over seeds and documents of every metric; an interval over documents where there is something to draw."""
    if not any(seeds):
        return {}
    found = means(row.scores for predictions in seeds for row in predictions)
    result: dict[str, Any] = {}
    for metric in METRICS:
        by_document: dict[str, list[float]] = {}
        for predictions in seeds:
            for row in predictions:
                value = row.scores.get(metric)
                if value is not None:
                    by_document.setdefault(row.id, []).append(value)
        values = np.array([sum(each) / len(each) for each in by_document.values()])
        interval = group_interval(values, group_indices(by_document, groups))
        low, high = interval or (None, None)
        result[metric] = {"mean": found.get(metric), "low": low, "high": high}
    return result


def _gain(method: str, verdict: Verdict) -> dict[str, float] | None:
    """The gain over zero-shot with its simultaneous interval, out of the verdict: one procedure, one set of numbers."""
    for pair in verdict.pairs:
        if (pair.first, pair.second) == (method, "zero_shot"):
            return {"mean": pair.difference, "low": pair.low, "high": pair.high}
        if (pair.first, pair.second) == ("zero_shot", method):
            return {"mean": -pair.difference, "low": -pair.high, "high": -pair.low}
    return None


def _costs(runs: Sequence[_Run], axes: Mapping[str, Cost]) -> dict[str, Any]:
    trainable = [run.record.trainable_parameters for run in runs]
    rates = [_tokens_per_second(run.record) for run in runs]
    costs: dict[str, Any] = {name: cost.value for name, cost in axes.items()}
    costs |= {"trainable_parameters": _mean(trainable), "tokens_per_second": _mean(rates)}
    costs["reasons"] = {name: cost.reason for name, cost in axes.items() if cost.value is None}
    if costs["tokens_per_second"] is None:
        costs["reasons"]["tokens_per_second"] = "nothing was trained"
    return costs


def _tokens_per_second(record: Record) -> float | None:
    """Training tokens a second, padding not counted."""
    phase = record.resources.phases.get("train") if record.resources else None
    return phase.tokens / phase.wall_seconds if phase and phase.tokens and phase.wall_seconds > 0 else None


def _mean(values: Sequence[float | int | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
