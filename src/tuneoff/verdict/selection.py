"""Select the run that a study hands over: the best method, and of its seeds the one with the lowest validation loss."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from tuneoff.errors import UserError
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import ModelToUse
from tuneoff.text import join_words
from tuneoff.verdict.grouping import grouped
from tuneoff.verdict.judge import JudgedModel, judge_study
from tuneoff.verdict.outputs import ignores_documents


def find_model_to_use(study: StoredStudy, method: str | None = None, model: str | None = None) -> ModelToUse:
    """The run to use of a study, or of its runs of one `method` or on one base `model`.

    Raises `UserError` if no run has finished, none of that method and model, or if nothing was measured or learned
    that a choice between several methods could be made by.
    """
    usable = [run for run in study.runs if _is_usable(run)]
    if not usable:
        raise UserError(
            f"{study.path}: contains no finished run on all the data; name the folder that `tuneoff compare` wrote"
        )
    for flag, name, known in (
        ("--method", method, {run.record.spec.method.name for run in usable}),
        ("--model", model, {run.record.spec.model.name for run in usable}),
    ):
        if name is not None and name not in known:
            raise UserError(f"{flag} {name}: the study has no finished run of it; use {', '.join(sorted(known))}")
    judged = judge_study(study)
    found = choose_model(judged, usable, method, model)
    if found is None and method is None and (reason := why_no_model(judged)) is not None:
        names = sorted({run.record.spec.method.name for run in usable})
        only = choose_model(judged, usable, names[0], model) if len(names) == 1 else None
        if only is not None:  # there is nothing to choose
            return only.model_copy(update={"why": f"the only method of this study; {reason}"})
        raise UserError(
            f"{study.path}: no model is handed over ({reason}); to use one all the same, add --method NAME "
            f"({', '.join(names)})"
        )
    if found is None:
        raise UserError(
            f"--method {method} --model {model}: the study has no finished run of this method on this model; "
            "leave out one of the two"
        )
    return found


def choose_model(
    judged: Iterable[JudgedModel], runs: Sequence[StoredRun], method: str | None = None, model: str | None = None
) -> ModelToUse | None:
    """The run to use, from a study that was judged before; None if no run can be used or none is worth it.

    The method with the highest mean on any base model, among those with a finished run on all the data. Of its seeds
    the one with the lowest validation loss, if possible among those whose texts depend on the document.
    """
    usable = [run for run in runs if _is_usable(run) and model in (None, run.record.spec.model.name)]
    usable_of = grouped(usable, lambda run: (run.record.spec.model.name, run.record.spec.method.name))
    models = {run.record.spec.model.name for run in usable}
    candidates: list[tuple[float, JudgedModel, list[StoredRun]]] = []
    for one in judged:
        if method is None and one.verdict.no_winner is not None:
            continue
        means = {result.method: result.mean for result in one.verdict.methods}  # empty without a verdict
        for name in one.scores.methods:
            if method not in (None, name):
                continue
            of_models = models if one.scores.block is None else {one.scores.block}  # None: there is one model
            own = [run for of_model in sorted(of_models) for run in usable_of.get((of_model, name), ())]
            own = [run for run in own if run.record.spec.data.fold in (None, 1)]  # losses of two folds do not compare
            own = [run for run in own if not ignores_documents(run.outputs)] or own
            if own:
                unjudged = fmean(run.record.scores.get(one.scores.metric) or 0.0 for run in own)
                candidates.append((means.get(name, unjudged), one, own))
    if not candidates:
        return None
    mean, best, own = max(candidates, key=lambda candidate: candidate[0])
    alone = len(candidates) == 1 and len(best.scores.methods) == 1
    run = min(own, key=lambda run: (_validation_loss(run.record), run.record.spec.seed))
    spec, artefact = run.record.spec, run.record.artefact
    return ModelToUse(
        run=run.name,
        method=spec.method.name,
        title=best.scores.title(spec.method.name),
        model=spec.model.name,
        seed=spec.seed,
        why=_reason(best, spec.method.name, mean, len(own), method, model, alone=alone)
        + ("" if model is not None else _other_models(candidates, best)),
        card=artefact is not None and "README.md" in artefact.files,
    )


def why_no_model(judged: Iterable[JudgedModel]) -> str | None:
    """Why a study with finished runs hands over no model, as sentences; None if it does."""
    reasons = [one.verdict.no_winner for one in judged]
    return " ".join(dict.fromkeys(filter(None, reasons))) if reasons and all(reasons) else None


def _reason(
    judged: JudgedModel,
    name: str,
    mean: float,
    seeds: int,
    asked_method: str | None,
    asked_model: str | None,
    *,
    alone: bool,
) -> str:
    chosen = f"; of its {seeds} seeds the one with the lowest validation loss" if seeds > 1 else ""
    if asked_method is not None:
        return f"the requested method{chosen}"
    if alone:
        return f"the only method{chosen}"
    reason = "the highest mean" if asked_model is None else "the highest mean on that model"
    if judged.verdict.too_small is not None:
        return f"{reason}, but the study is too small to tell{chosen}; --method NAME uses another"
    better = [result.title for result in judged.verdict.methods if result.mean > mean]
    if better:
        leaves = "leaves" if len(better) == 1 else "leave"
        return f"{reason} except for {join_words(better)}, which {leaves} no model to use{chosen}"
    others = [judged.scores.title(other) for other in judged.verdict.best_set if other != name]
    if others and name in judged.verdict.best_set:
        return f"{reason}{chosen}; {join_words(others)} may be the best too (--method NAME)"
    return f"{reason}{chosen}"


def _other_models(candidates: Iterable[tuple[float, JudgedModel, object]], chosen: JudgedModel) -> str:
    """The highest mean on each other base model: base models are not compared, so the order may be chance."""
    highest: dict[str, float] = {}
    for mean, judged, _ in candidates:
        if judged is not chosen:
            model = judged.scores.block or ""
            highest[model] = max(mean, highest.get(model, mean))
    if not highest:
        return ""
    shown = join_words([f"{mean:.1f} on {model}" for model, mean in highest.items()])
    return f"; no test compares base models: the highest mean is {shown}"


def _is_usable(run: StoredRun) -> bool:
    record = run.record
    if not record.spec.is_main or record.status != "finished":
        return False
    # Prompts made from documents are removed by --no-texts.
    return record.artefact is None or record.artefact.format != "prompt" or run.dir.has_artefact_files(record)


def _validation_loss(record: Record) -> float:
    loss = record.curve.best_validation_loss
    return math.inf if loss is None else loss
