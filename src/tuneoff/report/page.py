"""The report: one HTML file that works from disk, without network and without `unsafe-eval`.

Texts of documents, models and users are untrusted. The template escapes what it prints. The documents travel as JSON in
a data block and reach the page only through `textContent`. A content security policy names the hash of each of our
scripts and of the style sheet, and forbids everything else.
"""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.methods.rows import row_title
from tuneoff.metrics.registry import METRICS
from tuneoff.prompts import field_names
from tuneoff.report import formatting, sections
from tuneoff.report.escaping import embedded_json
from tuneoff.report.findings import checks_of
from tuneoff.report.overview import make_overview
from tuneoff.report.paper import StudyInPaper
from tuneoff.report.pictures import Pictures
from tuneoff.report.rating import rating_page
from tuneoff.report.reader_data import reader_data
from tuneoff.report.study_charts import StudyChart, compared_runs, method_styles, study_charts
from tuneoff.report.templates import read_resource, security_policy, style_sheet, template_environment
from tuneoff.report.theme import DARK
from tuneoff.results.json_files import finite_or_none
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import Summary
from tuneoff.spec import StudySpec
from tuneoff.verdict.confounds import arithmetic


@dataclass(frozen=True)
class WrittenReport:
    """The report page of a study and its pictures, some of which can be missing."""

    page: Path
    pictures: Pictures


def render(summary: Summary, study: StoredStudy) -> WrittenReport:
    """Write `report.html`, `rating.html` and `figures/` of a study.

    Raises `UserError` if the folder has no `study.json` or a file is damaged.
    """
    spec = study.spec
    if spec is None:
        raise UserError(f"{study.path}: contains no study.json; name the folder that `tuneoff compare` wrote")
    rating = rating_page(summary, study, spec)
    if rating is None:
        study.dir.rating_page.unlink(missing_ok=True)  # an earlier one would keep texts that were withheld
    else:
        study.dir.write_page(study.dir.rating_page, rating)

    def write(files: Collection[str], problem: str | None) -> None:
        page = _page(summary, study, spec, charts, drawings, files, problem, rated=rating is not None)
        study.dir.write_page(study.dir.report, page)

    charts, problem = _charts(summary, study)
    drawings = _specifications(charts)
    # The page comes first: drawing takes longest, and may be ended from outside.
    write([f"{one.file}{ending}" for one in charts for ending in (".png", ".svg")], problem)
    pictures = _save_pictures(drawings, study)
    if pictures.problem is not None:
        write([path.name for path in pictures.paths], None)
    return WrittenReport(study.dir.report, Pictures(pictures.paths, problem or pictures.problem))


def _charts(summary: Summary, study: StoredStudy) -> tuple[Sequence[StudyChart], str | None]:
    """All charts of the page; none, and why, without the packages that hold the code that draws them."""
    try:
        charts = list(study_charts(summary, study))
        _vega_bundle()
    except ImportError as error:
        packages = "vl-convert-python" if error.name == "vl_convert" else "altair vl-convert-python"
        return [], f"{error}; run pip install {packages}"
    return charts, None


def _save_pictures(drawings: Mapping[str, object], study: StoredStudy) -> Pictures:
    if not drawings:
        return Pictures((), None)
    from tuneoff.report.figures import save_charts

    return save_charts(drawings, study.dir.figures)


def _specifications(charts: Sequence[StudyChart]) -> dict[str, object]:
    """The specification of each chart by the name of its file."""
    if not charts:
        return {}
    from tuneoff.report.figures import specification

    return {one.file: specification(one.chart) for one in charts}


def _page(
    summary: Summary,
    study: StoredStudy,
    spec: StudySpec,
    charts: Sequence[StudyChart],
    drawings: Mapping[str, object],
    files: Collection[str],
    problem: str | None,
    *,
    rated: bool,
) -> str:
    """The page. `files`: names of the pictures in `figures/`, to which it links. `problem`: why there is no chart."""
    compared = compared_runs(summary, study)
    styles = method_styles(summary, study)
    paper = StudyInPaper.of(summary, study)
    table = paper.table
    titles = {name: row_title(name) for name in (*METHODS, *spec.methods)}
    titles |= {row.name: row.title for row in summary.rows if row.kind == "method"}
    style = style_sheet()
    scripts = [
        _vega_bundle() if charts else "",
        read_resource("charts.js"),
        read_resource("copying.js"),
        read_resource("escaping.js") + read_resource("differences.js") + read_resource("reader.js"),
    ]
    reader = reader_data(summary, study, styles)
    names = {run.name for run in compared}
    listed = [*compared, *(run for run in study.runs if run.record.spec.is_main and run.name not in names)]
    environment = template_environment()
    environment.filters["metric_title"] = formatting.metric_title
    environment.filters["format_setting"] = formatting.format_setting
    environment.filters["indented_json"] = _indented_json
    return environment.from_string(read_resource("page.html.j2")).render(
        policy=security_policy(scripts, style),
        rating=study.dir.rating_page.name if rated else None,
        rating_results=sections.rating_results(study),
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own files and the Vega bundle
        charts_json=Markup(embedded_json({"dark": DARK, "figures": drawings})),  # noqa: S704 - escaped there
        reader_json=Markup(embedded_json(reader.content)),  # noqa: S704 - escaped there
        readable=reader.content["readable"],
        has_documents=bool(study.documents),
        left_out=reader.left_out,
        summary=summary,
        fields=[shlex.quote(f"{name}=VALUE") for name in field_names(spec.prompt.instruction)],
        several_models=len(spec.models) > 1,
        styles=list(styles),
        table=table,
        figures=charts,
        files=files,
        undrawn=f"Nothing could be drawn: {problem}." if problem else "No run recorded data to draw.",
        headline=sections.headline(summary, table, styles),
        runs=[(run.name, run.record, styles.of(run.record) if run.name in names else None) for run in listed],
        machine=sections.machine_facts(summary.machine),
        format_seconds=formatting.format_seconds,
        columns=[(name, METRICS[name].description if name in METRICS else "") for name in table.further_metrics],
        facts=sections.study_facts(spec, summary),
        notes=sections.row_notes(summary, styles),
        checks=checks_of(summary),
        overview=make_overview(summary, {run.name: run.record for run in compared}, styles),
        paper=paper,
        paper_files=[
            ("latex", "LaTeX: paragraph, table and bibliography", "study.tex", paper.latex),
            ("bibtex", "BibTeX", "study.bib", paper.bibtex),
            ("markdown", "Table and paragraph in Markdown", "study.md", paper.markdown),
            ("csv", "Table as CSV", "study.csv", paper.csv),
        ],
        budget=sections.budget_facts(summary.budget, titles) if summary.budget else None,
        titles=titles,
        arithmetic=arithmetic,
    )


def _indented_json(value: object) -> str:
    return json.dumps(finite_or_none(value), indent=1, ensure_ascii=False)


@cache
def _vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed with its expression interpreter, as one script without imports."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in bundle.lower() or "<!--" in bundle:
        raise ValueError("the Vega bundle contains text that would end its script element")
    return bundle
