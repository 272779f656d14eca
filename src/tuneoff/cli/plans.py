"""The plan of a study as text for people and as plain data for programs."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tuneoff import models
from tuneoff.cli.method_pages import as_typed
from tuneoff.data import cleaning_report, count_documents
from tuneoff.methods import method_class
from tuneoff.metrics.registry import METRICS
from tuneoff.spec import StudySpec
from tuneoff.spec.row_names import MARK
from tuneoff.study import planner
from tuneoff.study.allocation import FLOOR_DOCUMENTS, FLOOR_STEPS
from tuneoff.study.budget import FittedStudy
from tuneoff.study.data_checks import columns_line
from tuneoff.study.data_facts import DataFacts, fact_lines, look_at_texts
from tuneoff.study.runner import PreparedStudy
from tuneoff.text import format_duration, join_words, plural


def plan_as_json(prepared: PreparedStudy) -> dict[str, Any]:
    """The plan of a study: counts, effort and every run with its resolved settings."""
    inputs, missing = prepared.inputs, prepared.missing
    sensitivity = inputs.sensitivity(prepared.spec)
    return {
        "name": prepared.spec.name,
        "folder": str(prepared.dir.path),
        "looks": list(prepared.spec.looks),
        "data": {
            "description": inputs.dataset.description,
            "counts": inputs.counts,
            "columns": {split: dataclasses.asdict(taken) for split, taken in inputs.dataset.columns.items()},
            "facts": dataclasses.asdict(_facts(prepared)),
            "caution": inputs.coverage.caution,
            "cautions": list(inputs.cautions),
        },
        "sees": None
        if sensitivity is None
        else {
            "smallest_difference": sensitivity.smallest_difference,
            "smallest_margin": sensitivity.smallest_margin,
        },
        "runs": [
            {
                "name": run.name,
                "run_id": run.run_id,
                "folder": str(prepared.dir.run_dir(run.folder).path),
                "done": run not in missing,
                "steps": inputs.hashes.schedule(run.spec).steps,
                "spec": run.spec.model_dump(mode="json"),
            }
            for run in prepared.plan.runs
        ],
    }


def plan_as_text(prepared: PreparedStudy) -> str:
    """The same for people."""
    study, train, inputs = prepared.spec, prepared.spec.train, prepared.inputs
    effort = f"{train.epochs:g} epoch{'' if train.epochs == 1 else 's'}, {train.batch_size} examples per step"
    if train.max_steps:
        effort += f", at most {train.max_steps} steps"
    lines = [
        f"study   {study.name}, folder {prepared.dir.path}",
        f"data    {inputs.dataset.description}",
        *(f"        {line}" for line in cleaning_report(inputs.dataset)),
        *(f"columns {line}" for line in [columns_line(inputs.dataset.columns)] if line),
        *(f"        {line}" for line in fact_lines(_facts(prepared))),
        *(f"        CAUTION: {caution}" for caution in inputs.cautions),
        *([f"rows    {', '.join(study.methods)}"] if any(MARK in name for name in study.methods) else []),
        *(f"model   {model.name} ({model.precision} precision)" for model in study.models),
        f"prompt  {study.prompt.template} template, {study.prompt.instruction!r}",
        *([f"        the cue is {study.prompt.cue!r}; --cue sets another"] if study.task == "other" else []),
        f"        at most {study.prompt.max_length} tokens, {planner.reserved_tokens(study)} of them reserved for "
        "virtual tokens",
        f"effort  {effort}; {'at most ' if study.until_settled else ''}{plural(study.seeds, 'seed')}",
        *(
            [f"folds   {study.data.folds}, each tested once by every method, seed and setting"]
            if study.data.folds
            else []
        ),
        *([f"looks   {_looks(study)}"] if study.until_settled else []),
        f"output  at most {study.generate.max_new_tokens} new tokens, {plural(study.generate.num_beams, 'beam')}",
    ]
    if study.trials:
        where = "on each fraction of the data" if study.search_at == "each" else "on all the data"
        lines.append(
            f"search  {plural(study.trials, 'trial')} and a refinement trial for each method {where}, chosen by "
            f"validation loss{_second_look(study)}; {prepared.total} runs in all, the final ones follow from the trials"
        )
    if study.halving:
        rungs = sorted({step for run in prepared.plan.runs for step, _ in run.spec.cut_above})
        lines.append(
            "        trials of a trained method run one after another; a bad one is pruned at "
            f"{' or '.join(f'step {step}' for step in rungs)}"
        )
    if len(study.fractions) > 1:
        fractions = ", ".join(f"{fraction:g}" for fraction in study.fractions)
        lines.append(
            f"sizes   {fractions} of the data, nested; at least {study.step_floor} steps on a smaller fraction, but "
            "not more than on all the data"
        )
    if (sentence := sensitivity_sentence(prepared)) is not None:
        lines.append(f"detects {sentence}")
        lines.append(
            f"margin  a difference of at most {study.margin:g} points of {METRICS[study.metric].title} does not matter"
        )
    width = max(len(run.name) for run in prepared.plan.runs)
    missing = prepared.missing
    for run in prepared.plan.runs:
        state = "to do" if run in missing else "done"
        steps = inputs.hashes.schedule(run.spec).steps
        work = plural(steps, "step") if steps else "no training"
        lines.append(
            f"run     {run.name:<{width}}  {state}, {work}  {_values(run.spec.method.hyperparameters)}".rstrip()
        )
    return "\n".join(lines)


def _facts(prepared: PreparedStudy) -> DataFacts:
    """Of the texts, in tokens of the first model."""
    study = prepared.spec
    return look_at_texts(study, prepared.inputs.dataset, models.load_tokenizer(study.models[0]))


def _looks(study: StudySpec) -> str:
    numbers = join_words([str(seeds) for seeds in study.looks])
    return (
        f"after {numbers} seeds; a method that is shown to lose more than {study.margin:g} points gets no further "
        "seeds, and the study ends when all is settled"
    )


def _second_look(study: StudySpec) -> str:
    if study.choose_by == "loss":
        return ""
    return ", and between the two best by the texts of a second training, unless the losses agree on one of them"


def sensitivity_sentence(prepared: PreparedStudy) -> str | None:
    """What the study will be able to detect, before anything is measured; None if there is nothing to compare."""
    sensitivity = prepared.inputs.sensitivity(prepared.spec)
    if sensitivity is None:
        return None
    documents = count_documents(prepared.inputs.dataset.test)
    metric = METRICS[prepared.spec.metric]
    at_most = "at most " if prepared.spec.until_settled else ""
    size = f"with {at_most}{plural(prepared.spec.seeds, 'seed')} and {plural(documents, 'test document')}"
    if prepared.spec.seeds == 1 and any(method_class(name).seeded for name in prepared.spec.methods):
        size += ", which say something about these training runs and not about other seeds"
    if metric.scale is not None and sensitivity.smallest_difference > metric.scale:
        return f"{size}, no difference that is possible would be detected (for typical spreads of scores)"
    return (
        f"{size}, differences of about {sensitivity.smallest_difference:.{metric.digits}f} {metric.unit} of "
        f"{metric.title} or more are detected (with 80 % probability, for typical spreads of "
        "scores)"
    )


def longer_study_sentences(asked: StudySpec, fitted: FittedStudy) -> Iterator[str]:
    """What a longer time would allow: the floor, if the study is below it, and smaller differences."""
    if fitted.floor_seconds is not None:
        yield (
            f"below {FLOOR_DOCUMENTS} test documents and {FLOOR_STEPS} steps (or an epoch) a study shows little more "
            f"than that everything runs; a study of this size takes about {format_duration(fitted.floor_seconds)}"
        )
    metric = METRICS.get(asked.metric)
    for longer in fitted.longer:
        assert metric is not None
        size = f"{plural(longer.seeds, 'seed')}, {plural(longer.documents, 'test document')}"
        yield (
            f"in {longer.time}, differences of about {longer.difference:.{metric.digits}f} {metric.unit} of "
            f"{metric.title} would be detected ({size})"
        )


def _values(hyperparameters: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={as_typed(value)}" for key, value in hyperparameters.items())
