"""The report: one HTML file that works from disk, with no network and no `unsafe-eval`.

Every text of documents, models and users is hostile. The template escapes what it prints; the documents travel as JSON
in a data block and reach the page through `textContent` only; a content security policy names the hash of each of our
scripts and of the style sheet, and forbids everything else.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tuneoff.methods import METHODS
from tuneoff.metrics.registry import METRICS
from tuneoff.prompts import field_names
from tuneoff.report import figures, formatting, rating, sections
from tuneoff.report.company import alone, of_clocks, of_costs
from tuneoff.report.escaping import embedded_json
from tuneoff.report.folder import StudyFolder, read_study
from tuneoff.report.html import environment, policy, source
from tuneoff.report.table import COSTS, build, member_of, primary_metric
from tuneoff.report.theme import DARK, HUES, NEUTRAL, Cast
from tuneoff.results.run_record import Record, plain_numbers, write_text_atomic
from tuneoff.verdict.confounds import arithmetic


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
                title = f"{formatting.title(metric)} against {cost}"
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
    scripts = [vega_bundle(), source("charts.js"), source("escaping.js") + source("reader.js")]
    reader = _reader(study, cast)
    template = environment()
    template.filters["score_title"] = formatting.title
    template.filters["plain"] = formatting.plain
    template.filters["pretty"] = lambda value: json.dumps(plain_numbers(value), indent=1, ensure_ascii=False)
    charts = {"dark": DARK, "figures": {one.name: figures.specification(one.chart) for one in drawn}}
    return template.from_string(source("page.html.j2")).render(
        policy=policy(scripts, style),
        rating=rating.PAGE if rated else None,
        rated=sections.rated(study.path),
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own files and the Vega bundle
        charts_json=Markup(embedded_json(charts)),  # noqa: S704 - escaped there
        reader_json=Markup(embedded_json(reader)),  # noqa: S704 - escaped there
        readable=bool(reader["documents"]),
        study=study,
        summary=study.summary,
        fields=field_names(study.spec.prompt.instruction),
        spec=study.spec,
        cast=list(cast),
        table=table,
        figures=drawn,
        headline=sections.headline(study, table, cast),
        runs=[
            (folder, study.records[folder], cast.of(records[folder]) if folder in records else None)
            for folder in {**records, **study.records}
        ],
        machine=sections.machine(study.summary.machine),
        seconds_text=formatting.seconds,
        columns=[(name, METRICS[name].description if name in METRICS else "") for name in table.more_metrics],
        cost_titles={name: title for name, (title, _, _) in COSTS.items()},
        facts=sections.facts(study),
        notes=sections.notes(study, cast),
        health=sections.findings(study.summary.health),
        confounds=[one for one in study.summary.mixed if one.grave],
        budget=sections.budget(study.summary.budget, titles) if study.summary.budget else None,
        titles=titles,
        arithmetic=arithmetic,
    )


def _reader(study: StudyFolder, cast: Cast) -> dict[str, Any]:
    """The documents and every system's text and scores, by position. Empty without texts."""
    documents = study.documents
    if not any(one.document for one in documents):  # a study made with --no-texts keeps ids and groups only
        return {"documents": [], "systems": [], "metrics": [], "primary": None}
    place = {document.id: index for index, document in enumerate(documents)}
    systems: list[dict[str, Any]] = []
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
                if prediction.id in place and not prediction.left_out:
                    texts[place[prediction.id]] = [prediction.text, prediction.scores]
            seed = study.records[name].spec.seed if name in study.records else 0
            outputs.append({"seed": seed, "texts": texts})
        if outputs:
            systems.append(
                {
                    "label": cast.label(row.title, row.model),
                    "kind": row.kind,
                    "slot": member.slot if member else None,
                    "glyph": member.glyph if member else "○",
                    "outputs": outputs,
                }
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
            {
                "title": formatting.title(name),
                "digits": METRICS[name].digits if name in METRICS else 2,
                "higher_is_better": METRICS[name].higher_is_better if name in METRICS else None,
            }
            for name in order
        ],
        "primary": order.index("rouge1") if "rouge1" in order else 0,
    }


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
