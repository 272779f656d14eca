"""A page on which a person compares the texts of two methods without knowing which is which."""

import random

from markupsafe import Markup

from tuneoff.prompts import fill_fields
from tuneoff.report.escaping import embedded_json
from tuneoff.report.templates import read_resource, security_policy, template_environment
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import ComparisonRow, Summary
from tuneoff.spec import StudySpec

PAIRS = 100


def rating_page(summary: Summary, study: StoredStudy, spec: StudySpec) -> str | None:
    """The page as HTML: pairs of different texts of the two methods with the highest means on one base model.

    None if there are no such texts: a study without texts, or with a single method.
    """
    rated = _best_two(summary, study)
    if rated is None:
        return None
    texts = {document.id: document for document in study.documents if document.document}
    outputs = [{row.id: row.text for row in run.predictions} for _, run in rated]
    ids = sorted(key for key in texts if outputs[0].get(key, "") != outputs[1].get(key, ""))
    if not ids:
        return None
    rng = random.Random(f"{summary.name}/rating")
    rng.shuffle(ids)
    pairs = []
    for key in ids[:PAIRS]:
        order = rng.sample((0, 1), 2)
        pairs.append(
            {
                "id": key,
                "instruction": fill_fields(spec.prompt.instruction, texts[key].fields),
                "document": texts[key].document,
                "references": texts[key].references[:1],
                "texts": [outputs[side].get(key, "") for side in order],
                "order": order,
            }
        )
    data = {
        "study": summary.name,
        "methods": [row.name for row, _ in rated],
        "runs": [run.name for _, run in rated],
        "pairs": pairs,
    }
    style, script = read_resource("rating.css"), read_resource("escaping.js") + read_resource("rating.js")
    template = template_environment().from_string(read_resource("rating.html.j2"))
    return template.render(
        policy=security_policy([script], style),
        name=summary.name,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        pairs=Markup(embedded_json(data)),  # noqa: S704 - escaped there
    )


def _best_two(summary: Summary, study: StoredStudy) -> list[tuple[ComparisonRow, StoredRun]] | None:
    """The two rows of one base model with the highest score, each with its first run that has texts."""
    scored = [
        (mean, row)
        for row in summary.rows
        if row.kind == "method" and (mean := row.score(summary.primary_metric).mean) is not None
    ]
    if not scored:
        return None
    _, first = max(scored, key=lambda pair: pair[0])
    ranked = sorted((pair for pair in scored if pair[1].model == first.model), key=lambda pair: -pair[0])
    found = [(row, _first_with_texts(row, study)) for _, row in ranked[:2]]
    usable = [(row, run) for row, run in found if run is not None]
    return usable if len(usable) == 2 else None


def _first_with_texts(row: ComparisonRow, study: StoredStudy) -> StoredRun | None:
    runs = (study.run(name) for name in row.runs)
    return next((run for run in runs if run and _has_texts(run)), None)


def _has_texts(run: StoredRun) -> bool:
    predictions = run.predictions
    return bool(predictions) and not any(prediction.text_withheld for prediction in predictions)
