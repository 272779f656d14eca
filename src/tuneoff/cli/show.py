"""Plans and results as text for people and as plain data for programs."""

import typing
from collections.abc import Mapping
from typing import Any

from tuneoff import methods
from tuneoff.data import cleaning_report, count_documents
from tuneoff.study.runner import Prepared


def plan_as_json(prepared: Prepared) -> dict[str, Any]:
    """The plan of a study: counts, effort and every run with its resolved settings."""
    sees = prepared.sees
    done = {run.run_id for run in prepared.runs} - {run.run_id for run in prepared.missing}
    return {
        "name": prepared.study.name,
        "folder": str(prepared.folder),
        "data": {
            "description": prepared.dataset.description,
            "counts": prepared.counts,
            "caution": prepared.unread.caution,
        },
        "sees": None
        if sees is None
        else {"smallest_difference": sees.smallest_difference, "smallest_margin": sees.smallest_margin},
        "runs": [
            {
                "name": run.name,
                "run_id": run.run_id,
                "folder": str(prepared.folder / run.folder),
                "done": run.run_id in done,
                "steps": prepared.steps(run),
                "spec": run.spec.model_dump(mode="json"),
            }
            for run in prepared.runs
        ],
    }


def plan_as_text(prepared: Prepared) -> str:
    """The same for people."""
    study, train = prepared.study, prepared.study.train
    reserved = max(method.overhead_tokens for method in prepared.methods.values())
    effort = f"{train.epochs:g} epoch{'' if train.epochs == 1 else 's'}, {train.batch_size} examples a step"
    if train.max_steps:
        effort += f", at most {train.max_steps} steps"
    lines = [
        f"study   {study.name}, folder {prepared.folder}",
        f"data    {prepared.dataset.description}",
        *(f"        {line}" for line in cleaning_report(prepared.dataset)),
        *(f"        CAUTION: {caution}" for caution in [prepared.unread.caution] if caution),
        *(f"model   {model.name} ({model.precision} precision)" for model in study.models),
        f"prompt  {study.prompt.template} template, {study.prompt.instruction!r}",
        f"        at most {study.prompt.max_length} tokens, {reserved} of them kept for virtual tokens",
        f"effort  {effort}; {study.seeds} seed{'' if study.seeds == 1 else 's'}",
        f"output  at most {study.generate.max_new_tokens} new tokens, {study.generate.num_beams} beam(s)",
    ]
    if study.trials:
        where = "each share of the data" if study.search_at == "each" else "all the data"
        lines.append(
            f"search  {study.trials} trials and a reserve one for each method at {where}, chosen by validation loss; "
            f"{prepared.total} runs in all, the final ones follow from the trials"
        )
    if study.halving:
        rungs = sorted({step for run in prepared.runs for step, _ in run.spec.cut_above})
        lines.append(
            "        trials of a trained method go one by one; a bad one is cut at "
            f"{' or '.join(f'step {step}' for step in rungs)}"
        )
    if len(study.fractions) > 1:
        shares = ", ".join(f"{share:g}" for share in study.fractions)
        lines.append(
            f"shares  {shares} of the data, nested; at least {study.step_floor} steps on a share below 1, but no more "
            "than on all of it"
        )
    if (sees := foresight(prepared)) is not None:
        lines.append(f"sees    {sees}")
        lines.append(f"margin  a difference of at most {study.margin:g} points of ROUGE-1 does not matter")
    width = max(len(run.name) for run in prepared.runs)
    for run in prepared.runs:
        state = "to do" if run in prepared.missing else "done"
        steps = prepared.steps(run)
        work = f"{steps} steps" if steps else "no training"
        lines.append(
            f"run     {run.name:<{width}}  {state}, {work}  {_values(run.spec.method.hyperparameters)}".rstrip()
        )
    return "\n".join(lines)


def foresight(prepared: Prepared) -> str | None:
    """What the study will be able to tell apart, before anything is measured; None with nothing to tell apart."""
    sees = prepared.sees
    if sees is None:
        return None
    seeds = prepared.study.seeds
    return (
        f"{seeds} seed{'' if seeds == 1 else 's'} and {count_documents(prepared.dataset.test)} test documents tell "
        f"methods apart that differ by about {sees.smallest_difference:.1f} points of ROUGE-1 or more (with 80 % "
        "probability, if scores spread as they usually do)"
    )


def _values(hyperparameters: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_value(value)}" for key, value in hyperparameters.items())


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()  # as it is typed
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def methods_as_json() -> list[dict[str, Any]]:
    """Every method of the registry with its hyper-parameters."""
    return [
        {
            "name": name,
            "title": kind.title,
            "trains": kind.trains,
            "hyperparameters": methods.defaults(name),
            "search": {key: list(bounds) for key, bounds in kind.search.items()},
            "choices": {key: list(values) for key, values in kind.choices.items()},
            "source": kind.source,
        }
        for name, kind in methods.METHODS.items()
    ]


def methods_as_text() -> str:
    """The same for people."""
    lines = []
    for name, kind in methods.METHODS.items():
        lines.append(f"{name}: {kind.title}. {kind.source}")
        types = typing.get_type_hints(kind)
        for key, value in methods.defaults(name).items():
            low_high = kind.search.get(key)
            searched = f"  (searched from {low_high[0]:g} to {low_high[1]:g})" if low_high else ""
            if key in kind.choices:
                searched = f"  ({len(kind.choices[key])} values to try)"
            written = types[key].__name__ if isinstance(types[key], type) else "names"
            lines.append(f"  {name}.{key} = {_value(value)}  {written}{searched}")
    lines.append("peft:TYPE: any adapter of the installed PEFT that lives in a model's layers, with PEFT's settings")
    return "\n".join(lines)
