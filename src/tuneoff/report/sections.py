"""What the page says in words: the answer, what was compared, notes, the time that was planned, what readers prefer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneoff.methods import METHODS
from tuneoff.report import formatting
from tuneoff.report.folder import Budget, Finding, Search, StudyFolder
from tuneoff.report.table import Table
from tuneoff.report.theme import Cast
from tuneoff.spec import StudySpec
from tuneoff.verdict.ratings import saved_ratings

_ALL_SHOWN, _FIRST = 4, 2  # findings of one kind: as many all stand on the page; of more, so many
_PERCENTAGE = re.compile(r"(\d+)(?= ?%)")


def headline(study: StudyFolder, table: Table, cast: Cast) -> tuple[str, list[str]]:
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
    where = f" on {model}" if (model := cast.apart(best.model)) else ""
    name = formatting.title(metric).replace("-", "\N{NON-BREAKING HYPHEN}")
    said = f"{best.title}{where} scored highest: {name}\N{NO-BREAK SPACE}{formatting.score(metric, highest)}"
    anchor = next((pair for pair in scored if pair[0].name == "zero_shot" and pair[0].model == best.model), None)
    if anchor is not None and anchor[0] is not best:
        said += f", against {formatting.score(metric, anchor[1])} for {anchor[0].title}"
    seeds = max(row.seeds for row, _ in scored)
    tests = study.summary.data.counts.get("test")
    return said + ".", [
        f"{len(scored)} of {len(rows)} {'pairs of method and model' if several else 'methods'} were scored on the same "
        f"{f'{tests:,} ' if tests else ''}test texts, with {seeds} seed{'s' if seeds > 1 else ''} each. This is a "
        "measurement, not a verdict: the differences were not tested."
    ]


def notes(study: StudyFolder, cast: Cast) -> list[tuple[str, str]]:
    """The notes of all rows: whose, and what. What several rows say stands once."""
    said: dict[str, list[str]] = {}
    for row in study.summary.rows:
        for note in _merged(row.notes):
            said.setdefault(note, []).append(cast.label(row.title, row.model))
    for one in study.summary.mixed:
        if not one.changes_scores:
            said.setdefault(one.description, []).append(cast.apart(one.model) or "All methods")
    return [(", ".join(labels), note) for note, labels in said.items()]


def findings(health: Iterable[Finding]) -> list[tuple[list[Finding], list[Finding]]]:
    """What health checks have seen, by check: what stands on the page, and what is folded up behind it. Of many of a
    kind the first ones say what it is."""
    kinds: dict[str, list[Finding]] = {}
    for finding in health:
        kinds.setdefault(finding.check, []).append(finding)
    return [(found, []) if len(found) <= _ALL_SHOWN else (found[:_FIRST], found[_FIRST:]) for found in kinds.values()]


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


def rated(study: Path) -> list[tuple[str, Sequence[str]]]:
    """The ratings that people saved in the folder: the file, and what it shows or why it is left out."""
    return [(path.name, [one] if isinstance(one, str) else one.sentences) for path, one in saved_ratings(study)]


def machine(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the machine is, as terms and texts."""
    told = []
    for name, value in sorted(about.items()):
        term = {"cpu": "CPU", "os": "OS"}.get(name, name.removesuffix("_bytes").replace("_", " "))
        measured = name.endswith("_bytes") and isinstance(value, int | float)
        told.append((term, formatting.size(value) if measured else formatting.plain(value)))
    return told


def budget(plan: Budget, titles: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The time that a study was fitted into, as terms and their lines; nothing where it has a problem."""
    asked = [] if plan.budget_seconds is None else [f"the whole study within {formatting.seconds(plan.budget_seconds)}"]
    if plan.equal == "time":
        asked.append("the same training time for every trained method")
    steps = ", ".join(f"{titles.get(name, name)} {number:,}" for name, number in plan.steps.items())
    planned = [] if plan.planned_seconds is None else [f"about {formatting.seconds(plan.planned_seconds)}"]
    if not plan.fits:
        planned.append("more than was allowed: nothing smaller could be judged")
    told = [
        ("Asked for", asked),
        ("Gave way, before → after", [line.replace(" -> ", " → ") for line in plan.given_up] or ["nothing"]),
        ("Optimiser steps in equal time", [steps] if steps else []),
        ("Planned for all runs", planned),
        ("All runs took", [] if plan.took_seconds is None else [formatting.seconds(plan.took_seconds)]),
    ]
    return [] if plan.problem else [(term, lines) for term, lines in told if lines]


def facts(study: StudyFolder) -> list[tuple[str, list[str]]]:
    """What was compared, as terms and their lines."""
    spec, summary = study.spec, study.summary
    counts = ", ".join(f"{number:,} {split}" for split, number in summary.data.counts.items())
    train, generate = spec.train, spec.generate
    effort = f"{train.epochs:g} epoch{'s' if train.epochs != 1 else ''}"
    if train.max_steps is not None:
        effort += f", at most {train.max_steps:,} steps"
    searched = "beam search, " + f"{generate.num_beams} beams" if generate.num_beams > 1 else "greedy"
    shares = ", ".join(f"{100 * share:g} %" for share in spec.fractions)
    told = [
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
    said = [(term, [line for line in lines if line]) for term, lines in told]
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
