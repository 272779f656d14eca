"""The report: one HTML file that works from disk, with no network and no `unsafe-eval`.

Every text of documents, models and users is hostile. The template escapes what it prints; the documents travel as JSON
in a data block and reach the page through `textContent` only; a content security policy names the hash of each of our
scripts and of the style sheet, and forbids everything else.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.metrics.table import METRICS
from tuneoff.record import Record, plain_numbers, write_text_atomic
from tuneoff.report import figures, quantities, rating
from tuneoff.report.company import alone, of_clocks, of_costs
from tuneoff.report.folder import Budget, Row, Search, StudyFolder, read_study
from tuneoff.report.hostile import embedded_json
from tuneoff.report.html import environment, policy, source
from tuneoff.report.palette import DARK, HUES, NEUTRAL, Cast, model_label
from tuneoff.report.table import COSTS, Table, build, member_of, primary_metric
from tuneoff.spec import StudySpec
from tuneoff.verdict.mixture import arithmetic
from tuneoff.verdict.ratings import judge_ratings, read_ratings, saved_ratings

_PERCENTAGE = re.compile(r"(\d+)(?= ?%)")


@dataclass(frozen=True)
class Figure:
    """A chart on the page: its file name, heading, what to read from it, and its Vega-Lite specification."""

    name: str
    title: str
    caption: str
    wide: bool
    chart: Any


def render(study_folder: Path) -> list[Path]:
    """Write `report.html` and `figures/*.png` and `.svg` of a study folder; the paths, the page first.

    Raises `UserError` when the folder is no study or a file in it is damaged."""
    study = read_study(study_folder)
    records = _compared(study)
    cast = Cast(records.values(), {row.name: row.title for row in study.summary.rows if row.kind == "method"})
    drawn = list(_figures(study, list(records.values()), cast))
    page = study_folder / "report.html"
    written = [path for one in drawn for path in figures.write(one.chart, study_folder / "figures", one.name)]
    rated = rating.write(study)
    write_text_atomic(page, _html(study, records, cast, drawn, rated=rated is not None))
    return [page, *written, *([rated] if rated else [])]


def _compared(study: StudyFolder) -> dict[str, Record]:
    """The records of the rows by run folder, in the order of the rows. A folder may hold others, of an earlier choice
    of methods: they are listed under provenance and drawn nowhere."""
    named = [run for row in study.summary.rows for run in row.runs if run in study.records]
    return {run: study.records[run] for run in named}


def _figures(study: StudyFolder, records: list[Record], cast: Cast) -> Iterator[Figure]:
    rows = study.summary.rows
    costs, note = alone(records, study.timing), of_costs(records, study.timing, cast)
    metric = primary_metric(rows)
    if metric is not None:
        levels = {
            row.title: mean for row in rows if row.kind != "method" and (mean := row.score(metric).mean) is not None
        }
        intervals = {}
        for row in rows:
            member, score = member_of(row, study.records, cast), row.score(metric)
            # An interval around the mean of several seeds belongs to none of the points of its runs.
            if member and row.seeds == 1 and score.low is not None and score.high is not None:
                intervals[member.model, member.method] = (score.low, score.high)
        for cost in figures.COSTS:
            said = note if cost == "time" else None
            chart = figures.quality_against(
                costs, cost, cast, metric=metric, intervals=intervals, baselines=levels, note=said
            )
            if chart is not None:
                title = f"{quantities.title(metric)} against {cost}"
                yield Figure(f"quality_against_{cost}", title, _with(_QUALITY[cost], said), False, chart)
    for place, sizes in enumerate(study.summary.data_sizes):
        model = sizes.block or (cast.models[0] if cast.models else "")
        chart = figures.data_sizes(sizes.curves, sizes.crossovers, cast, model)
        if chart is not None:
            of = f", {cast.shown.get(model, model)}" if sizes.block else ""
            yield Figure(
                f"data_sizes_{place + 1}" if place else "data_sizes", f"Amount of data{of}", _SIZES, True, chart
            )
    for name, title, caption, chart in (
        ("loss_curves", "Loss while training", _LOSS, figures.loss_curves(records, cast)),
        ("resource_bars", "What each method costs", _with(_BARS, note), figures.resource_bars(costs, cast, note=note)),
        ("timeline", "Resources over time", _with(_TIMELINE, of_clocks(records)), figures.timeline(records, cast)),
    ):
        if chart is not None:
            yield Figure(name, title, caption, True, chart)


def _with(caption: str, note: str | None) -> str:
    return f"{caption} {note[0].upper()}{note[1:]}." if note else caption


_QUALITY = {
    "time": "Up and to the left is better. Time is that of the whole run, loading and generation included.",
    "memory": "Up and to the left is better. Accelerator memory where there is one, else memory of the run's process.",
    "size": "Up and to the left is better. What must be kept and shipped, logarithmic above 1 MB.",
}
_SIZES = (
    "Shares of the data are nested and drawn by the seed, validation data too; methods are paired. Where a band lies "
    "above zero, the method is better than the anchor at that amount."
)
_LOSS = (
    "Thin lines are training loss, bold lines validation loss; a ring marks the checkpoint that was kept; "
    "a dashed line is a method that trains nothing."
)
_BARS = "Mean over the finished runs of each method."
_TIMELINE = "One line a run, from its own start."


def _html(study: StudyFolder, records: dict[str, Record], cast: Cast, drawn: list[Figure], *, rated: bool) -> str:
    table = build(study.summary.rows, records, cast)
    titles = {name: method.title for name, method in METHODS.items()}
    titles |= {row.name: row.title for row in study.summary.rows if row.kind == "method"}
    style = _style()
    scripts = [vega_bundle(), source("charts.js"), source("reader.js")]
    template = environment()
    template.filters["score_title"] = quantities.title
    template.filters["plain"] = quantities.plain
    template.filters["pretty"] = lambda value: json.dumps(plain_numbers(value), indent=1, ensure_ascii=False)
    charts = {"dark": DARK, "figures": {one.name: figures.specification(one.chart) for one in drawn}}
    return template.from_string(source("page.html.j2")).render(
        policy=policy(scripts, style),
        rating=rating.PAGE if rated else None,
        rated=_rated(study.path),
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own files and the Vega bundle
        charts_json=Markup(embedded_json(charts)),  # noqa: S704 - escaped there
        reader_json=Markup(embedded_json(_reader(study, cast))),  # noqa: S704 - escaped there
        study=study,
        summary=study.summary,
        spec=study.spec,
        cast=list(cast),
        table=table,
        figures=drawn,
        headline=_headline(study, table),
        runs=[
            (folder, study.records[folder], cast.of(records[folder]) if folder in records else None)
            for folder in {**records, **study.records}
        ],
        machine=_machine(study.summary.machine),
        seconds_text=quantities.seconds,
        columns=[(name, METRICS[name].description if name in METRICS else "") for name in table.more_metrics],
        cost_titles={name: title for name, (title, _, _) in COSTS.items()},
        facts=_facts(study),
        notes=_notes(study, len(cast.models) > 1),
        confounds=[one for one in study.summary.mixed if one.grave],
        budget=_budget(study.summary.budget, titles) if study.summary.budget else None,
        titles=titles,
        arithmetic=arithmetic,
    )


def _headline(study: StudyFolder, table: Table) -> tuple[str, list[str]]:
    """The answer and what qualifies it: the verdict where there is one, else what was measured, without a claim."""
    verdict = study.summary.verdict
    if verdict and verdict.sentences:
        return verdict.sentences[0], list(verdict.sentences[1:])
    metric, rows = table.primary, [row for row in study.summary.rows if row.kind == "method"]
    scored = [(row, mean) for row in rows if (mean := row.score(metric).mean) is not None]
    if not scored:
        return "No method has a score yet.", ["No run of this study finished with generated texts."]
    several = len(table.blocks) > 1
    best, highest = max(scored, key=lambda pair: pair[1])
    where = f" on {model_label(best.model)}" if several and best.model else ""
    name = quantities.title(metric).replace("-", "\N{NON-BREAKING HYPHEN}")
    said = f"{best.title}{where} scored highest: {name}\N{NO-BREAK SPACE}{quantities.score(metric, highest)}"
    anchor = next((pair for pair in scored if pair[0].name == "zero_shot" and pair[0].model == best.model), None)
    if anchor is not None and anchor[0] is not best:
        said += f", against {quantities.score(metric, anchor[1])} for {anchor[0].title}"
    seeds = max(row.seeds for row, _ in scored)
    tests = study.summary.data.counts.get("test")
    return said + ".", [
        f"{len(scored)} of {len(rows)} {'pairs of method and model' if several else 'methods'} were scored on the same "
        f"{f'{tests:,} ' if tests else ''}test texts, with {seeds} seed{'s' if seeds > 1 else ''} each. This is a "
        "measurement, not a verdict: the differences were not tested."
    ]


def _notes(study: StudyFolder, several: bool) -> list[tuple[str, str]]:
    """The notes of all rows: whose, and what. What several rows say stands once."""
    said: dict[str, list[str]] = {}
    for row in study.summary.rows:
        label = f"{row.title} · {model_label(row.model)}" if several and row.model else row.title
        for note in _merged(row.notes):
            said.setdefault(note, []).append(label)
    for one in study.summary.mixed:
        if not one.grave:
            said.setdefault(one.words, []).append(model_label(one.model) if several else "All methods")
    return [(", ".join(labels), note) for note, labels in said.items()]


def _merged(notes: Iterable[str]) -> list[str]:
    """Notes of seeds that differ in one percentage alone, as one with its range."""
    shares: dict[tuple[str, str], set[int]] = {}
    for note in notes:
        parts = _PERCENTAGE.split(note)
        before, share, after = parts if len(parts) == 3 else (note, "", "")
        shares.setdefault((before, after), set()).update({int(share)} if share else ())
    return [
        before + " to ".join(str(share) for share in sorted({min(found), max(found)})) + after if found else before
        for (before, after), found in shares.items()
    ]


def _rated(study: Path) -> list[tuple[str, Sequence[str]]]:
    """The ratings that people saved in the folder: the file, and what it shows or why it is left out."""
    found: list[tuple[str, Sequence[str]]] = []
    for path in saved_ratings(study):
        try:
            found.append((path.name, judge_ratings(study, read_ratings(path)).sentences))
        except UserError as error:
            found.append((path.name, [f"left out: {error}"]))
    return found


def _machine(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the machine is, as terms and texts."""
    facts = []
    for name, value in sorted(machine.items()):
        term = {"cpu": "CPU", "os": "OS"}.get(name, name.removesuffix("_bytes").replace("_", " "))
        measured = name.endswith("_bytes") and isinstance(value, int | float)
        facts.append((term, quantities.size(value) if measured else quantities.plain(value)))
    return facts


def _budget(budget: Budget, titles: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The time that a study was fitted into, as terms and their lines; nothing where it has a problem."""
    asked = (
        [] if budget.budget_seconds is None else [f"the whole study within {quantities.seconds(budget.budget_seconds)}"]
    )
    if budget.equal == "time":
        asked.append("the same training time for every trained method")
    steps = ", ".join(f"{titles.get(name, name)} {number:,}" for name, number in budget.steps.items())
    planned = [] if budget.planned_seconds is None else [f"about {quantities.seconds(budget.planned_seconds)}"]
    if not budget.fits:
        planned.append("more than was allowed: nothing smaller could be judged")
    facts = [
        ("Asked for", asked),
        ("Gave way, before → after", [line.replace(" -> ", " → ") for line in budget.given_up] or ["nothing"]),
        ("Optimiser steps in equal time", [steps] if steps else []),
        ("Planned for all runs", planned),
        ("All runs took", [] if budget.took_seconds is None else [quantities.seconds(budget.took_seconds)]),
    ]
    return [] if budget.problem else [(term, lines) for term, lines in facts if lines]


def _facts(study: StudyFolder) -> list[tuple[str, list[str]]]:
    """What was compared, as terms and their lines."""
    spec, summary = study.spec, study.summary
    counts = ", ".join(f"{number:,} {split}" for split, number in summary.data.counts.items())
    train, generate = spec.train, spec.generate
    effort = f"{train.epochs:g} epoch{'s' if train.epochs != 1 else ''}"
    if train.max_steps is not None:
        effort += f", at most {train.max_steps:,} steps"
    searched = "beam search, " + f"{generate.num_beams} beams" if generate.num_beams > 1 else "greedy"
    shares = ", ".join(f"{100 * share:g} %" for share in spec.fractions)
    facts = [
        ("Methods", [", ".join(METHODS[name].title if name in METHODS else name for name in spec.methods)]),
        ("Tuned", [_tuned(spec, summary.search)]),
        ("Fixed by the study", _fixed(spec) or ["nothing: what was not tuned stands at the methods' defaults"]),
        (
            "Shares of the data",
            [f"{shares}; at least {spec.step_floor} steps below all, but no more than all takes"]
            if shares != "100 %"
            else [],
        ),
        ("Models", [model.name for model in spec.models]),
        ("Data", [summary.data.description, counts]),
        (
            "Effort, the same for all",
            [
                f"{effort}, batches of {train.batch_size}, {train.schedule} schedule",
                f"{spec.seeds} seed{'s' if spec.seeds > 1 else ''}, at most {spec.prompt.max_length:,} tokens",
            ],
        ),
        ("Prompt", [f"“{spec.prompt.instruction}”", f"cue “{spec.prompt.cue}”, {spec.prompt.template} template"]),
        ("Generation", [f"{searched}, at most {generate.max_new_tokens:,} new tokens"]),
        ("ROUGE", [summary.signature or "no signature recorded"]),
        ("Cleaning", list(summary.data.cleaning) or ["nothing was dropped"]),
    ]
    said = [(term, [line for line in lines if line]) for term, lines in facts]
    return [(term, lines) for term, lines in said if lines]


def _tuned(spec: StudySpec, search: Search | None) -> str:
    """What the trials of the study varied."""
    if not spec.trials:
        return "nothing: no trials"
    names = dict.fromkeys(f"{cell.method}.{cell.hyperparameter}" for cell in (search.cells if search else ()))
    where = "at each share of the data" if spec.search_at == "each" and len(spec.fractions) > 1 else "on all the data"
    return f"{spec.trials} trials and a reserve one for each method, {where}: {', '.join(names) or 'not yet'}"


def _fixed(spec: StudySpec) -> list[str]:
    """The values that the study itself gives its methods."""
    return [
        f"{method}.{name} = {value}"
        for method, values in spec.hyperparameters.items()
        for name, value in values.items()
    ]


def _reader(study: StudyFolder, cast: Cast) -> dict[str, Any]:
    """The documents and every system's text and scores, by position. Empty without texts."""
    documents = study.documents
    if not any(one.document for one in documents):  # a study made with --no-texts keeps ids and groups only
        return {"documents": [], "systems": [], "metrics": [], "primary": None}
    place = {document.id: index for index, document in enumerate(documents)}
    systems = []
    for row in study.summary.rows:
        names = list(row.runs) if row.kind == "method" else [row.name]
        source = study.predictions if row.kind == "method" else study.other_predictions
        member = member_of(row, study.records, cast)
        outputs = []
        for name in names:
            if not source.get(name):
                continue
            texts: list[Any] = [None] * len(documents)
            for prediction in source[name]:
                if prediction.id in place:
                    texts[place[prediction.id]] = [prediction.text, prediction.scores]
            seed = study.records[name].spec.seed if name in study.records else 0
            outputs.append({"seed": seed, "texts": texts})
        if outputs:
            systems.append(
                _system(row, cast, outputs, member.slot if member else None, member.glyph if member else "○")
            )
    present = {
        metric: None
        for system in systems
        for output in system["outputs"]
        for text in output["texts"]
        if text
        for metric in text[1]
    }
    order = [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]
    for system in systems:
        for output in system["outputs"]:
            output["texts"] = [text and [text[0], [text[1].get(name) for name in order]] for text in output["texts"]]
    return {
        "documents": [
            {"id": one.id, "text": one.document, "references": one.references, "fields": one.fields}
            for one in documents
        ],
        "systems": systems,
        "metrics": [
            {"title": quantities.title(name), "digits": METRICS[name].digits if name in METRICS else 2}
            for name in order
        ],
        "primary": order.index("rouge1") if "rouge1" in order else 0,
    }


def _system(row: Row, cast: Cast, outputs: list[dict[str, Any]], slot: int | None, glyph: str) -> dict[str, Any]:
    label = f"{row.title} · {model_label(row.model)}" if row.model and len(cast.models) > 1 else row.title
    return {"label": label, "kind": row.kind, "slot": slot, "glyph": glyph, "outputs": outputs}


def _style() -> str:
    """The style sheet, with one class a hue."""
    hues = "".join(
        f".hue-{slot}{{--hue:{light}}}@media (prefers-color-scheme:dark){{.hue-{slot}{{--hue:{dark}}}}}\n"
        for slot, (light, dark) in enumerate((NEUTRAL, *HUES))
    )
    return source("page.css") + hues


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed with its expression interpreter, as one script without imports."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in bundle.lower() or "<!--" in bundle:
        raise ValueError("the Vega bundle cannot stand inside a script element")
    return bundle
