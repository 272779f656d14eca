"""Text of the report page: the answer, notes, diagnostics, what was compared, the time limit, ratings."""

import re
from collections.abc import Iterable, Mapping, Sequence

from tuneoff.methods.rows import row_title
from tuneoff.report import formatting
from tuneoff.report.table import ResultsTable
from tuneoff.report.theme import MethodStyles
from tuneoff.results.run_record import Machine
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.study_state import SearchFile
from tuneoff.results.summary import BudgetReport, Summary
from tuneoff.spec import StudySpec
from tuneoff.spec.row_names import MARK
from tuneoff.study.data_checks import columns_line
from tuneoff.text import join_words, plural
from tuneoff.verdict.ratings import saved_ratings

Facts = list[tuple[str, list[str]]]
"""Terms, each with its lines."""

_PERCENTAGE = re.compile(r"(\d+)(?= ?%)")


def headline(summary: Summary, table: ResultsTable, styles: MethodStyles) -> tuple[str, list[str]]:
    """The answer, and the sentences that explain it. Without a verdict: what was measured, without a claim.

    Where the best method is not handed over, the answer is why: the heading claims no best method.
    """
    if summary.sentences:
        first, sentences = summary.verdicts[0], summary.sentences
        if first.too_small or first.says_nothing:
            return _split_answer(sentences[0], sentences[1:])
        if first.no_winner is not None:
            return _split_answer(f"{first.block}: {first.no_winner}" if first.block else first.no_winner, sentences)
        return sentences[0], list(sentences[1:])
    metric, rows = table.primary, [row for row in summary.rows if row.kind == "method"]
    scored = [(row, mean) for row in rows if (mean := row.score(metric).mean) is not None]
    if not scored:
        return "No method has a score yet.", ["No run of this study finished with generated texts."]
    best, highest = max(scored, key=lambda pair: pair[1])
    where = f" on {model}" if (model := styles.model_name(best.model)) else ""
    name = formatting.metric_title(metric).replace("-", "\N{NON-BREAKING HYPHEN}")
    answer = f"{best.title}{where} scored highest: {name}\N{NO-BREAK SPACE}{formatting.format_score(metric, highest)}"
    anchor = next((pair for pair in scored if pair[0].name == "zero_shot" and pair[0].model == best.model), None)
    if anchor is not None and anchor[0] is not best:
        answer += f", against {formatting.format_score(metric, anchor[1])} for {anchor[0].title}"
    tests = summary.data.counts.get("test")
    compared = "pairs of method and model" if len(table.blocks) > 1 else "methods"
    seeds = plural(max(row.compared_seeds for row, _ in scored), "seed")
    return f"{answer}.", [
        f"{len(scored)} of {len(rows)} {compared} were scored on the same {f'{tests:,} ' if tests else ''}test texts, "
        f"with {seeds} each. This is a measurement, not a verdict: the differences were not tested."
    ]


def _split_answer(reason: str, others: Iterable[str]) -> tuple[str, list[str]]:
    """The first sentence of a reason as the answer, and its advice before the other sentences."""
    answer, _, advice = reason.partition(". ")
    return f"{answer.removesuffix('.')}.", [*([advice] if advice else []), *others]


def row_notes(summary: Summary, styles: MethodStyles) -> list[tuple[str, str]]:
    """The notes of all rows, each with the labels of its rows. A note of several rows appears once."""
    labels: dict[str, list[str]] = {}
    for row in summary.rows:
        for note in _merge_percentages(row.notes):
            labels.setdefault(note, []).append(styles.label(row.title, row.model))
    for confound in summary.confounds:
        if not confound.changes_scores:
            labels.setdefault(confound.description, []).append(styles.model_name(confound.model) or "All methods")
    return [(", ".join(rows), note) for note, rows in labels.items()]


def _merge_percentages(notes: Iterable[str]) -> list[str]:
    """Notes that differ only in one percentage, as one note with the range."""
    found: dict[tuple[str, str], set[int]] = {}
    for note in notes:
        parts = _PERCENTAGE.split(note)
        before, percentage, after = parts if len(parts) == 3 else (note, "", "")
        found.setdefault((before, after), set()).update({int(percentage)} if percentage else ())
    return [
        before + " to ".join(str(value) for value in sorted({min(values), max(values)})) + after if values else before
        for (before, after), values in found.items()
    ]


def rating_results(study: StoredStudy) -> list[tuple[str, Sequence[str]]]:
    """Ratings that people saved in the folder: the file, and what it shows or why it is ignored."""
    return [(path.name, [one] if isinstance(one, str) else one.sentences) for path, one in saved_ratings(study)]


def machine_facts(machine: Machine) -> list[tuple[str, str]]:
    """The machine as terms and texts."""
    found = machine.model_dump()
    if machine.accelerators is not None:
        found["accelerators"] = [
            accelerator.name
            if accelerator.memory_bytes is None
            else f"{accelerator.name}, {formatting.format_bytes(accelerator.memory_bytes)}"
            for accelerator in machine.accelerators
        ]
    facts = []
    for name, value in sorted(found.items()):
        term = {"cpu": "CPU", "os": "OS"}.get(name, name.removesuffix("_bytes").replace("_", " "))
        is_size = name.endswith("_bytes") and isinstance(value, int | float)
        facts.append((term, formatting.format_bytes(value) if is_size else formatting.format_setting(value)))
    return facts


def budget_facts(report: BudgetReport, titles: Mapping[str, str]) -> Facts:
    """How the study was fitted into its time limit; empty if there is a problem. `titles` by method."""
    if report.problem:
        return []
    request = []
    if report.budget_seconds is not None:
        request.append(f"the whole study within {formatting.format_seconds(report.budget_seconds)}")
    if report.equal == "time":
        request.append("the same training time for every trained method")
    steps = ", ".join(f"{titles.get(name, name)} {number:,}" for name, number in report.steps.items())
    planned = []
    if report.planned_seconds is not None:
        planned.append(f"about {formatting.format_seconds(report.planned_seconds)}")
    if not report.fits:
        planned.append("over the limit: a smaller study could not be judged")
    took = [] if report.took_seconds is None else [formatting.format_seconds(report.took_seconds)]
    return _without_empty(
        [
            ("Requested", request),
            ("Reduced, before → after", [line.replace(" -> ", " → ") for line in report.reduced] or ["nothing"]),
            ("Corrected while it ran", [line.replace(" -> ", " → ") for line in report.corrections]),
            ("Optimiser steps in equal time", [steps]),
            ("Planned for all runs", planned),
            ("All runs took", took),
        ]
    )


def study_facts(spec: StudySpec, summary: Summary) -> Facts:
    """What was compared."""
    train, generate, data = spec.train, spec.generate, summary.data
    effort = _epochs(train.epochs)
    if train.max_steps is not None:
        effort += f", at most {train.max_steps:,} steps"
    decoding = f"beam search with {generate.num_beams} beams" if generate.num_beams > 1 else "greedy"
    fractions = []
    if len(spec.fractions) > 1:
        listed = ", ".join(f"{100 * fraction:g} %" for fraction in spec.fractions)
        fractions.append(
            f"{listed}; at least {spec.step_floor} steps on a fraction, but never more than on all the data"
        )
    return _without_empty(
        [
            ("Methods", [", ".join(map(row_title, spec.methods))]),
            ("Tuned", [_tuned(spec, summary.search)]),
            ("Fixed by the study", _fixed(spec) or ["nothing: what was not tuned has the default of its method"]),
            ("Fractions of the data", fractions),
            ("Models", [model.name for model in spec.models]),
            ("Data", [data.description, ", ".join(f"{number:,} {split}" for split, number in data.counts.items())]),
            ("Columns", [columns_line(data.columns) or ""]),
            (
                "Effort, the same for all",
                [
                    f"{effort}, batches of {train.batch_size}, {train.schedule} schedule",
                    *([f"{spec.data.folds} folds, each with its own search"] if spec.data.folds else []),
                    f"{'at most ' if spec.until_settled else ''}{plural(spec.seeds, 'seed')}, at most "
                    f"{spec.prompt.max_length:,} tokens",
                ],
            ),
            ("Looks", [f"after {join_words([str(seeds) for seeds in spec.looks])} seeds"] if spec.looks else []),
            ("Prompt", [f"“{spec.prompt.instruction}”", f"cue “{spec.prompt.cue}”, {spec.prompt.template} template"]),
            ("Generation", [f"{decoding}, at most {generate.max_new_tokens:,} new tokens"]),
            ("ROUGE", [summary.signature or "no signature recorded"]),
            ("Cleaning", list(data.cleaning) or ["nothing was dropped"]),
        ]
    )


def _epochs(epochs: float) -> str:
    """`1 epoch`, `0.5 epochs`."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def _without_empty(facts: Facts) -> Facts:
    kept = [(term, [line for line in lines if line]) for term, lines in facts]
    return [(term, lines) for term, lines in kept if lines]


def _tuned(spec: StudySpec, search: SearchFile | None) -> str:
    """What the trials of the study varied."""
    if not spec.trials:
        return "nothing: no trials"
    names = dict.fromkeys(f"{cell.method}.{cell.hyperparameter}" for cell in (search.cells if search else ()))
    each = spec.search_at == "each" and len(spec.fractions) > 1
    where = "at each fraction of the data" if each else "on all the data"
    return (
        f"{plural(spec.trials, 'trial')} and a refinement trial for each method, {where}: "
        f"{', '.join(names) or 'not yet'}"
        + ("; of the two best, chosen by validation texts of a second training" if spec.choose_by == "text" else "")
    )


def _fixed(spec: StudySpec) -> list[str]:
    """Hyper-parameters that the study itself sets, but those in the name of a row."""
    return [
        f"{method}.{name} = {value}"
        for method, values in spec.hyperparameters.items()
        for name, value in values.items()
        if f"{MARK}{name}=" not in method
    ]
