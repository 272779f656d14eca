"""Diagnostics and confounds for the page: one line for each kind, open where they can change the conclusion."""

from collections.abc import Iterable
from dataclasses import dataclass

from tuneoff.results.summary import Confound, Finding, Summary
from tuneoff.text import plural

# Kinds of findings after which the scores of a method say nothing about it, and what they are called in one line.
_CHANGES_CONCLUSION = {"no training", "not used", "outputs"}
_TITLES = {
    "study": "What the study can show",
    "data": "Test data",
    "seed": "A seed that is an outlier",
    "seeds": "Seeds that differ far more than those of other methods",
    "no training": "Nothing was trained",
    "training loss": "Training loss that did not fall",
    "overfitting": "Overfitting",
    "initial tokens": "Start of the virtual tokens",
    "outputs": "Empty or constant outputs",
    "repetition": "Repetition",
    "instruction": "Instruction in the outputs",
    "not used": "Training that has no effect",
    "loss against score": "Lower loss, but no better score",
    "close settings": "Settings that are nearly as good",
    "search edge": "Best setting at the edge of those tried",
}
_MOST_NAMES = 4


@dataclass(frozen=True)
class Check:
    """Findings of one kind. `where` is short; `lines` are all findings, each with where it was found."""

    title: str
    where: str
    lines: tuple[tuple[str, str], ...]
    changes_conclusion: bool
    is_confound: bool = False


def checks_of(summary: Summary) -> list[Check]:
    """Confounds, then diagnostics; those that can change the conclusion come first."""
    confounds = [one for one in summary.confounds if one.changes_scores]
    made = [*_of_confounds(confounds), *_of_findings(summary.diagnostics)]
    return sorted(made, key=lambda check: not check.changes_conclusion)


def _of_confounds(confounds: Iterable[Confound]) -> list[Check]:
    lines = tuple((one.model, one.description) for one in confounds)
    if not lines:
        return []
    aspects = ", ".join(dict.fromkeys(one.aspect for one in confounds))
    return [Check("Confounds: runs were not computed in the same way", aspects, lines, True, True)]


def _of_findings(findings: Iterable[Finding]) -> list[Check]:
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.check, []).append(finding)
    return [
        Check(
            _TITLES.get(kind, kind[:1].upper() + kind[1:]),
            _where([finding.where for finding in found]),
            tuple((finding.where, finding.message) for finding in found),
            kind in _CHANGES_CONCLUSION,
        )
        for kind, found in kinds.items()
    ]


def _where(places: Iterable[str]) -> str:
    names = list(dict.fromkeys(places))
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMES])} and {plural(len(names) - _MOST_NAMES, 'other')}"
