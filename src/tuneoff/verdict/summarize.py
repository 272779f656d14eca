"""From a stored study to its `Summary`. A pure function of the study: writes nothing and reads no clock."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from tuneoff import __version__
from tuneoff.errors import UserError
from tuneoff.methods.rows import in_order, known_method, row_title
from tuneoff.metrics import METRICS
from tuneoff.results.baselines import EXTRACTIVE_ROWS
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Machine, Prediction, Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.study_state import ReducedSettings
from tuneoff.results.summary import BudgetReport, ComparisonRow, FailedRun, Finding, Interval, RowKind, Summary
from tuneoff.verdict.confounds import find_confounds
from tuneoff.verdict.costs import ModelMethod, concurrent_runs, finished_timing_runs, model_and_method
from tuneoff.verdict.diagnostics import diagnose
from tuneoff.verdict.grouping import grouped
from tuneoff.verdict.judge import JudgedModel, judge_study, planned_metric
from tuneoff.verdict.mean_interval import mean_interval
from tuneoff.verdict.scores import group_indices, tabulate
from tuneoff.verdict.selection import choose_model, why_no_model


def summarize(study: StoredStudy) -> Summary:
    """What the study found. Raises `UserError` for a damaged file."""
    runs = [run for run in study.runs if run.record.spec.is_main]
    judged = judge_study(study) if runs else []
    timing = finished_timing_runs(study.records)
    finals = [run for run in study.runs if run.record.spec.role == "final"]
    machines = (run.record.provenance.machine for run in runs)
    finished = [record.finished_at for record in study.records if record.finished_at is not None]
    compared = {one.scores.block: _Compared.of(one) for one in judged}
    return Summary(
        name=study.name,
        created_at=max(finished or [record.started_at for record in study.records], default=""),
        tuneoff_version=__version__,
        primary_metric=planned_metric(study),
        signature=runs[0].record.signature if runs else None,
        machine=next((machine for machine in machines if machine is not None), Machine()),
        data=study.data,
        rows=(*_method_rows(study, runs, judged, compared, timing), *_other_rows(study, compared)),
        verdicts=tuple(one.verdict for one in judged),
        winner=choose_model(judged, study.runs),
        no_winner=why_no_model(judged),
        claims=tuple(claim for one in judged for claim in one.claims),
        data_sizes=tuple(one.data_sizes for one in judged if one.data_sizes),
        search=study.search,
        budget=_budget_report(study),
        confounds=tuple(find_confounds(study.records)),
        diagnostics=(
            *_unreported(judged),
            *diagnose([(run.record, run.outputs) for run in finals], study.search, study.data, planned_metric(study)),
        ),
        failures=tuple(_failures(study.runs)),
    )


def _unreported(judged: Iterable[JudgedModel]) -> Iterator[Finding]:
    """Findings on studies that are too small, measure nothing or learned nothing, and on erratic methods."""
    for one in judged:
        where = one.scores.block or "the study"
        for reason in dict.fromkeys((one.verdict.too_small, one.verdict.says_nothing, one.verdict.no_winner)):
            if reason is not None:
                yield Finding(check="study", where=where, message=reason)
        for found in one.verdict.erratic:
            yield Finding(
                check="seeds",
                where=found.method if one.scores.block is None else f"{one.scores.block}, {found.method}",
                message=f"seeds differ far more than those of the other methods (standard deviation "
                f"{found.seed_sd:.1f} points, {found.others_sd:.1f} for the others): read its curves and outputs for "
                "trainings that failed",
            )


def _method_rows(
    study: StoredStudy,
    runs: Sequence[StoredRun],
    judged: Sequence[JudgedModel],
    compared: "Mapping[str | None, _Compared | None]",
    timing: Mapping[ModelMethod, Record],
) -> Iterator[ComparisonRow]:
    by_block = {one.scores.block: one for one in judged}
    for model, of_model in sorted(grouped(runs, lambda run: run.record.spec.model.name).items()):
        one = by_block.get(model) or by_block[None]
        what = compared[one.scores.block]
        by_method = grouped(of_model, lambda run: run.record.spec.method.name)
        for method in sorted(by_method, key=in_order):
            own = by_method[method]
            finished = [run for run in own if run.record.status == "finished"]
            counted = finished if what is None else what.runs_of(method, finished)
            known = known_method(method)
            notes = [note for run in own for note in run.record.notes]
            yield ComparisonRow(
                name=method,
                title=row_title(method),
                kind="method",
                model=model,
                seeds=_count_seeds(own),
                compared_seeds=_count_seeds(counted),
                compared_runs=len(counted),
                status=dict(Counter(run.record.status for run in own)),
                runs=tuple(run.name for run in own),
                scores=_intervals(
                    [run.outputs if what is None else what.outputs_of(run) for run in counted], study.groups
                ),
                gain=_gain_over_zero_shot(method, one),
                costs=dict(one.scores.costs.get(method, {})),
                best_epoch=(
                    _mean([run.record.curve.best_epoch for run in finished]) if known is None or known.trains else None
                ),
                validation_loss=_mean([run.record.curve.best_validation_loss for run in finished]),
                notes=tuple(dict.fromkeys([*notes, *_concurrency_note(finished, timing)])),
            )


@dataclass(frozen=True)
class _Compared:
    """The seeds and documents that the verdict compares a model's methods on: means over others would contradict it."""

    methods: Collection[str]
    seeds: Collection[int]
    """Of the methods that depend on the seed."""
    varying: Collection[str]
    documents: Collection[str]

    @classmethod
    def of(cls, judged: JudgedModel) -> "_Compared | None":
        """None where methods are compared by several looks, each with seeds of its own, or not at all."""
        table = tabulate(judged.scores)
        if judged.verdict.looks is not None or not table.documents:
            return None
        varying = {name for name, varies in zip(table.methods, table.varies, strict=True) if varies}
        return cls(frozenset(table.methods), frozenset(table.seeds), varying, frozenset(table.documents))

    def runs_of(self, method: str, finished: Sequence[StoredRun]) -> list[StoredRun]:
        """The finished runs of a method that count."""
        every = method not in self.methods or method not in self.varying
        return [run for run in finished if every or run.record.spec.seed in self.seeds]

    def outputs_of(self, run: StoredRun) -> RunOutputs:
        """What counts of a run."""
        compared = run.record.spec.method.name in self.methods
        return run.outputs.of_documents(self.documents) if compared else run.outputs


def _count_seeds(runs: Iterable[StoredRun]) -> int:
    return len({run.record.spec.seed for run in runs})


def _concurrency_note(runs: Sequence[StoredRun], timing: Mapping[ModelMethod, Record]) -> Iterator[str]:
    most = max((concurrent_runs(run.record) for run in runs), default=1)
    if most == 1:
        return
    if all(model_and_method(run.record) in timing for run in runs):
        yield f"{most} concurrent runs; time, energy and training speed are those of a timing run alone"
    else:
        yield f"time, energy and training speed were measured with {most} concurrent runs"


def _other_rows(study: StoredStudy, compared: Mapping[str | None, _Compared | None]) -> Iterator[ComparisonRow]:
    of_models = [what for what in compared.values() if what is not None]
    documents = of_models[0].documents if len(of_models) == 1 else None
    baselines = {name: rows for name, rows in study.baselines.items() if name in EXTRACTIVE_ROWS}
    kinds: tuple[tuple[RowKind, Mapping[str, Sequence[Prediction]]], ...] = (
        ("extractive", baselines),
        ("outside", study.outside),
    )
    for kind, found in kinds:
        for name, predictions in found.items():
            rows = [row for row in predictions if documents is None or row.id in documents]
            yield ComparisonRow(
                name=name, title=name, kind=kind, scores=_intervals([RunOutputs.of(rows)], study.groups)
            )


def _intervals(seeds: Sequence[RunOutputs], groups: Mapping[str, str]) -> dict[str, Interval]:
    """Mean over seeds and documents of each metric, with a bootstrap interval over document groups.

    There is no interval with few groups, or without any spread: it would be far too short.
    """
    if not any(map(len, seeds)):
        return {}
    documents = {key: position for position, key in enumerate(dict.fromkeys(key for one in seeds for key in one.ids))}
    positions = [np.array([documents[key] for key in one.ids], dtype=np.intp) for one in seeds]
    group_of = group_indices(documents, groups)
    intervals = {}
    for metric in METRICS:
        sums, counts = np.zeros(len(documents)), np.zeros(len(documents))
        for one, position in zip(seeds, positions, strict=True):
            if (column := one.columns.get(metric)) is not None:
                known = ~np.isnan(column)
                np.add.at(sums, position[known], column[known])
                np.add.at(counts, position[known], 1)
        scored = counts > 0
        low, high = mean_interval(sums[scored] / counts[scored], group_of[scored]) or (None, None)
        every = [value for one in seeds for value in one.known(metric)]
        intervals[metric] = Interval(mean=math.fsum(every) / len(every) if every else None, low=low, high=high)
    return intervals


def _gain_over_zero_shot(method: str, judged: JudgedModel) -> Interval | None:
    """The gain with the simultaneous interval of the verdict: one procedure, one set of numbers."""
    for pair in judged.verdict.pairs:
        if (pair.first, pair.second) == (method, "zero_shot"):
            return Interval(mean=pair.difference, low=pair.low, high=pair.high)
        if (pair.first, pair.second) == ("zero_shot", method):
            return Interval(mean=-pair.difference, low=-pair.high, high=-pair.low)
    return None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _failures(runs: Iterable[StoredRun]) -> Iterator[FailedRun]:
    for run in runs:
        record = run.record
        if not record.ended:
            yield FailedRun(run=run.name, message=record.failure.message if record.failure else record.status)


def _budget_report(study: StoredStudy) -> BudgetReport | None:
    """What `budget.json` says, or a problem if it is damaged or plans other settings than those of the study."""
    plan = study.budget
    if plan is None:
        return None
    if isinstance(plan, UserError):
        return BudgetReport(problem="budget.json is damaged, so what was reduced to fit the time limit is unknown.")
    if study.spec is None or plan.settings != ReducedSettings.of(study.spec):
        return BudgetReport(problem="budget.json plans other settings than those of this study, so it is ignored.")
    return BudgetReport(
        budget_seconds=plan.budget_seconds,
        equal=plan.equal,
        reduced=plan.given_up,
        corrections=plan.corrections,
        steps=plan.settings.steps,
        fits=plan.fits,
        planned_seconds=plan.seconds,
        took_seconds=_busy_seconds(study.records),
    )


def _busy_seconds(records: Iterable[Record]) -> float | None:
    """Seconds in which at least one run was active: without pauses, and concurrent runs counted once."""
    try:
        spans = sorted(
            (_timestamp(record.started_at), _timestamp(record.finished_at))
            for record in records
            if record.finished_at is not None
        )
    except ValueError:
        return None
    total, reached = 0.0, -math.inf
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total if spans else None


def _timestamp(text: str | None) -> float:
    found = datetime.fromisoformat(text or "")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
