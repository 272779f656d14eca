"""Diagnostics and confounds: one line for each kind, open where they can change the conclusion."""

from collections.abc import Callable
from pathlib import Path

from support.report_study import PageTexts, change_summary, read_summary
from tuneoff.report.findings import Check, checks_of
from tuneoff.results.summary import Confound, Finding, Summary

OVERFIT = [Finding(check="overfitting", where=f"lora-s{seed}", message="rose") for seed in range(13)]
EMPTY = Finding(check="outputs", where="full-s0", message="every output is empty")
ARITHMETIC = Confound(
    aspect="arithmetic", model="starter", changes_scores=True, description="runs differ in arithmetic"
)


def summary(*findings: Finding, confounds: tuple[Confound, ...] = ()) -> Summary:
    return Summary(
        name="x",
        created_at="",
        tuneoff_version="",
        primary_metric="rouge1",
        diagnostics=findings,
        confounds=confounds,
    )


def test_each_kind_is_one_line() -> None:
    found = checks_of(summary(*OVERFIT[:5], Finding(check="new kind", where="lora", message="odd"), *OVERFIT[5:]))
    assert [(one.title, one.where, len(one.lines), one.changes_conclusion) for one in found] == [
        ("Overfitting", "lora-s0, lora-s1, lora-s2, lora-s3 and 9 others", 13, False),
        ("New kind", "lora", 1, False),
    ]


def test_what_can_change_the_conclusion_comes_first() -> None:
    harmless = ARITHMETIC.model_copy(update={"changes_scores": False})
    found = checks_of(summary(*OVERFIT, EMPTY, confounds=(ARITHMETIC, harmless)))
    assert [(one.changes_conclusion, one.is_confound) for one in found] == [(True, True), (True, False), (False, False)]
    assert found[1] == Check(
        "Empty or constant outputs", "full-s0", (("full-s0", "every output is empty"),), changes_conclusion=True
    )
    assert found[0].lines == (("starter", "runs differ in arithmetic"),)


def test_the_page_folds_what_does_not_change_the_conclusion(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    change_summary(study, diagnostics=(*OVERFIT, EMPTY), confounds=(ARITHMETIC,))
    page = PageTexts(study)
    assert "every output is empty" in page.sections["check-2"]
    assert "runs differ in arithmetic" in page.sections["check-1"]
    assert "Overfitting: lora-s0, lora-s1, lora-s2, lora-s3 and 9 others" in page.sections["results-title"]
    text = (study / "report.html").read_text(encoding="utf-8")
    assert text.index("<details data-print><summary>Overfitting") < text.index("<span>rose</span>")
    assert read_summary(study).diagnostics[-1].message in text
