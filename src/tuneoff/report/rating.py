"""A page on which a person compares the texts of two methods without knowing which is whose."""

import random
from pathlib import Path

from markupsafe import Markup

from tuneoff.prompts import fill_fields
from tuneoff.report.escaping import embedded_json
from tuneoff.report.folder import Row, StudyFolder
from tuneoff.report.html import environment, policy, source
from tuneoff.results.run_record import write_text_atomic

PAGE = "rating.html"
PAIRS = 100


def write(study: StudyFolder) -> Path | None:
    """Write `rating.html`: the two methods with the highest means on one model, seed 0, texts that differ.

    None, and no page, where there are no such texts (a study without texts, or one method).
    """
    path = study.path / PAGE
    rated = _best_two(study) or []
    texts = {document.id: document for document in study.documents if document.document}
    outputs = [{row.id: row.text for row in study.predictions.get(run, [])} for _, run in rated]
    ids = sorted(key for key in texts if outputs and outputs[0].get(key, "") != outputs[1].get(key, ""))
    if not ids:
        path.unlink(missing_ok=True)  # one of an earlier time would keep its texts
        return None
    rng = random.Random(f"{study.summary.name}/rating")
    rng.shuffle(ids)
    pairs = []
    for key in ids[:PAIRS]:
        order = rng.sample((0, 1), 2)
        pairs.append(
            {
                "id": key,
                "instruction": fill_fields(study.spec.prompt.instruction, texts[key].fields),
                "document": texts[key].document,
                "references": texts[key].references[:1],
                "texts": [outputs[side].get(key, "") for side in order],
                "order": order,
            }
        )
    data = {
        "study": study.summary.name,
        "methods": [row.name for row, _ in rated],
        "runs": [run for _, run in rated],
        "pairs": pairs,
    }
    style, script = source("rating.css"), source("escaping.js") + source("rating.js")
    page = (
        environment()
        .from_string(source("rating.html.j2"))
        .render(
            policy=policy([script], style),
            name=study.summary.name,
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            pairs=Markup(embedded_json(data)),  # noqa: S704 - escaped there
        )
    )
    write_text_atomic(path, page)
    return path


def _has_texts(study: StudyFolder, run: str) -> bool:
    rows = study.predictions.get(run, [])
    return bool(rows) and not any(row.left_out for row in rows)


def _best_two(study: StudyFolder) -> list[tuple[Row, str]] | None:
    """Rows of one model with the highest ROUGE-1, each with its first finished run."""
    rows = [row for row in study.summary.rows if row.kind == "method" and row.score("rouge1").mean is not None]
    first = max(rows, key=lambda row: row.score("rouge1").mean or 0.0, default=None)
    if first is None:
        return None
    own = sorted((row for row in rows if row.model == first.model), key=lambda row: -(row.score("rouge1").mean or 0.0))[
        :2
    ]
    found = [(row, next((run for run in row.runs if _has_texts(study, run)), None)) for row in own]
    usable = [(row, run) for row, run in found if run is not None]
    return usable if len(usable) == 2 else None
