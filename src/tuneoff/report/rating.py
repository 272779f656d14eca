"""A page on which a person compares the texts of two methods without knowing which is which."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

from markupsafe import Markup

from tuneoff.prompts import fill_fields
from tuneoff.report.escaping import embedded_json
from tuneoff.report.templates import read_resource, security_policy, template_environment
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import ComparisonRow, Summary
from tuneoff.spec import StudySpec

PAIRS = 100


@dataclass(frozen=True)
class _RatedRuns:
    """Two runs with their texts by document id, and the ids of documents for which both wrote different ones."""

    runs: tuple[StoredRun, StoredRun]
    texts: tuple[Mapping[str, str], Mapping[str, str]]
    ids: list[str]


def rating_page(summary: Summary, study: StoredStudy, spec: StudySpec) -> str | None:
    """The page as HTML: pairs of different texts of the two methods with the highest means on one base model.

    None if there are no such texts: a study without texts, or with a single method.
    """
    rows = _best_two(summary)
    documents = {document.id: document for document in study.documents if document.document}
    rated = _rated_runs(rows, study, documents) if rows and documents else None
    if rows is None or rated is None:
        return None
    ids = sorted(rated.ids)
    rng = random.Random(f"{summary.name}/rating")
    rng.shuffle(ids)
    pairs = []
    for key in ids[:PAIRS]:
        order = rng.sample((0, 1), 2)
        pairs.append(
            {
                "id": key,
                "instruction": fill_fields(spec.prompt.instruction, documents[key].fields),
                "document": documents[key].document,
                "references": documents[key].references[:1],
                "texts": [rated.texts[side][key] for side in order],
                "order": order,
            }
        )
    data = {
        "study": summary.name,
        "methods": [row.name for row in rows],
        "runs": [run.name for run in rated.runs],
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


def _best_two(summary: Summary) -> tuple[ComparisonRow, ComparisonRow] | None:
    """The two rows of one base model with the highest scores."""
    scored = [
        (mean, row)
        for row in summary.rows
        if row.kind == "method" and (mean := row.score(summary.primary_metric).mean) is not None
    ]
    if not scored:
        return None
    _, first = max(scored, key=lambda pair: pair[0])
    ranked = sorted((pair for pair in scored if pair[1].model == first.model), key=lambda pair: -pair[0])
    return (ranked[0][1], ranked[1][1]) if len(ranked) > 1 else None


def _rated_runs(
    rows: tuple[ComparisonRow, ComparisonRow], study: StoredStudy, documents: Collection[str]
) -> _RatedRuns | None:
    """The first runs of the two rows, those of one seed and fold first, that wrote different texts for a document."""
    one, other = (
        [run for name in row.runs if (run := study.run(name)) is not None and _has_texts(run.outputs)] for row in rows
    )
    for runs in sorted(product(one, other), key=lambda pair: _seed_and_fold(pair[0]) != _seed_and_fold(pair[1])):
        # Not all runs have all documents: those of other folds have none in common.
        if not _outputs_differ(runs[0].outputs, runs[1].outputs):
            continue
        first, second = ({row.id: row.text for row in run.predictions} for run in runs)
        ids = [key for key in first.keys() & second.keys() if key in documents and first[key] != second[key]]
        if ids:
            return _RatedRuns(runs, (first, second), ids)
    return None


def _seed_and_fold(run: StoredRun) -> tuple[int, int | None]:
    return run.record.spec.seed, run.record.spec.data.fold


def _outputs_differ(first: RunOutputs, second: RunOutputs) -> bool:
    """Whether two runs differ on a document of both. Their texts would be read from the disk again."""
    elsewhere = second.by_document()
    return any(elsewhere.get(key, digest) != digest for key, digest in first.by_document().items())


def _has_texts(outputs: RunOutputs) -> bool:
    """Whether the run wrote texts, and none of them was withheld."""
    empty = outputs.columns.get("empty")
    return len(outputs) > 0 and (empty is None or not bool((~outputs.has_text & (empty == 0)).any()))
