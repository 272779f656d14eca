"""The text of the report: diagnostics, confounds, the time limit, the search, notes, what was compared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.report_study import (
    PageTexts,
    change_summary,
    edit_records,
    edit_spec,
    load,
    read_summary,
    write_new_summary,
)
from tuneoff.data import ColumnsTaken
from tuneoff.report import sections
from tuneoff.results.run_record import Accelerator, Machine, Provenance, Record, RunDetails
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import (
    BudgetFile,
    DataFile,
    PruningCheck,
    PruningSavings,
    ReducedSettings,
    SearchCell,
    SearchFile,
    TrialResult,
)
from tuneoff.results.summary import DataSizeVerdict, JudgedClaim

HOSTILE = "</h2><script>alert(1)</script>\x1b[31m\u202e"


def write_budget(study: Path, **update: Any) -> None:
    """Write a `budget.json` for the study of a folder."""
    spec = load(study).spec
    assert spec is not None
    settings = ReducedSettings(
        max_validation_documents=spec.data.max_validation_documents,
        max_test_documents=spec.data.max_test_documents,
        trials=spec.trials,
        fractions=spec.fractions,
        max_steps=spec.train.max_steps,
        min_steps=spec.train.min_steps,
        step_floor=spec.step_floor,
        seeds=spec.seeds,
        steps=spec.steps,
    )
    budget = BudgetFile(
        asked="x", budget_seconds=1200.0, seconds=1104.0, fits=True, given_up=("seeds 3 -> 1",), settings=settings
    )
    StudyDir(study).write_budget(budget.model_copy(update=update))


def test_without_a_budget_there_is_no_section(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    write_new_summary(study)
    assert "budget" not in PageTexts(study).sections


def test_the_page_reports_what_was_requested_reduced_and_taken(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    correction = "after 4 runs: seeds 2 -> 1"
    write_budget(study, given_up=("test documents 618 -> 200", "seeds 3 -> 1"), corrections=(correction,))
    report = write_new_summary(study).budget
    assert report is not None
    assert report.took_seconds == 240
    assert report.corrections == (correction,)
    shown = PageTexts(study).sections["budget"]
    assert "What was reduced to fit the time limit" in shown
    assert "after 4 runs: seeds 2 → 1" in shown
    for words in ("within 20 min 00 s", "test documents 618 → 200", "seeds 3 → 1", "about 18 min 24 s", "4 min 00 s"):
        assert words in shown


def test_a_budget_that_is_too_small_and_equal_time_are_reported(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    edit_spec(study, steps={"lora": 1234})
    write_budget(study, given_up=(), fits=False, budget_seconds=None, equal="time")
    write_new_summary(study)
    shown = PageTexts(study).sections["budget"]
    assert "the same training time" in shown
    assert "LoRA 1,234" in shown
    assert "a smaller study could not be judged" in shown
    assert "within" not in shown


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_a_damaged_budget_is_one_sentence(fake_study: Callable[..., Path], content: bytes) -> None:
    study = fake_study(documents=2, methods=("lora",))
    (study / "budget.json").write_bytes(content)
    write_new_summary(study)
    assert "budget.json is damaged" in PageTexts(study).sections["budget"]


def test_text_of_a_budget_is_escaped(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    plain = PageTexts(study).tags.count("script")
    write_budget(study, given_up=(HOSTILE,))
    write_new_summary(study)
    page = PageTexts(study)
    assert page.tags.count("script") == plain
    assert "</h2><script>alert(1)</script>⟨U+001B⟩[31m⟨U+202E⟩" in page.sections["budget"]


def test_confounds_that_change_scores_are_an_alarm_the_others_notes(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))

    def environment(record: Record) -> dict[str, Any]:
        lora = record.spec.method.name == "lora"
        return {
            "details": RunDetails(dtype="float32" if lora else "bfloat16", device="cpu"),
            "provenance": Provenance(machine=Machine(cpu=HOSTILE if lora else "EPYC", usable_cores=2)),
        }

    edit_records(study, environment)
    summary = write_new_summary(study)
    assert [(one.aspect, one.changes_scores) for one in summary.confounds] == [("arithmetic", True), ("machine", False)]
    page = PageTexts(study)
    assert "bfloat16 (1 run: Zero-shot), float32 (1 run: LoRA)" in page.sections["check-1"]
    assert "machine" not in page.sections["check-1"].partition("Differences between")[0]
    assert "runs differ in machine" in page.sections["results-title"]
    assert "</h2><script>alert(1)</script>⟨U+001B⟩" in page.sections["results-title"]
    assert "float32" in page.sections["provenance-title"]


def test_without_a_confound_there_is_no_alarm(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    assert write_new_summary(study).confounds == ()
    page = PageTexts(study)
    assert "check-1" not in page.sections
    assert not any("concurrent" in caption for caption in page.captions.values())


def test_the_page_says_what_was_compared_tuned_and_fixed(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    assert "no trials" in " ".join(PageTexts(study).sections.values())
    edit_spec(
        study,
        methods=["zero_shot", "lora", "lora@r=64"],
        trials=3,
        hyperparameters={"lora": {"r": 4}, "lora@r=64": {"r": 64, "lora_alpha": 8}},
        fractions=[0.1, 1],
    )
    cell = SearchCell(model="starter", method="lora", hyperparameter="learning_rate")
    StudyDir(study).write_search(SearchFile(cells=(cell,)))
    write_new_summary(study)
    shown = " ".join(PageTexts(study).sections.values())
    assert "Zero-shot, LoRA, LoRA r=64" in shown
    assert "lora@r=64.lora_alpha = 8" in shown
    assert "lora@r=64.r" not in shown  # its name says so
    assert "3 trials and a refinement trial for each method, at each fraction of the data: lora.learning_rate" in shown
    assert "lora.r = 4" in shown
    assert "10 %, 100 %; at least 50 steps on a fraction, but never more than on all the data" in shown


def test_the_page_names_the_columns_that_were_taken(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    taken = ColumnsTaken("text", ("summary",), ("title", HOSTILE), ("article",))
    StudyDir(study).write_data(DataFile(columns={"train": taken}))
    write_new_summary(study)
    page = PageTexts(study)
    shown = " ".join(page.sections.values())
    assert "document=text, summary=summary, fields=title+</h2>" in shown
    assert "passed over: article" in shown
    assert "\x1b" not in shown


def test_what_a_fraction_of_the_data_lacks_is_reported(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    sizes = DataSizeVerdict(
        block=None,
        level=0.95,
        curves=(),
        crossovers=(),
        sentences=("LoRA is better.",),
        notes=("At 10 % of the data: seed 1 is excluded.",),
    )
    change_summary(study, data_sizes=(sizes,))
    shown = PageTexts(study).sections["sizes"]
    assert "LoRA is better. 1 note on these amounts At 10 % of the data: seed 1 is excluded." in shown


def test_the_search_is_shown_by_titles_and_fractions(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    trial = TrialResult(value=0.001, validation_loss=2.5, status="finished", steps=7, seconds=75.0)
    pruned = TrialResult(value=0.01, cut_at=4, rungs=(PruningCheck(step=4, validation_loss=9.0),), steps=4, seconds=3.0)
    cell = SearchCell(
        model="starter",
        method="lora",
        fraction=0.3,
        hyperparameter="learning_rate",
        chosen=0.001,
        trials=(trial, pruned),
        saved=PruningSavings(steps=3, seconds=5.0),
    )
    StudyDir(study).write_search(SearchFile(cells=(cell,)))
    write_new_summary(study)
    assert "search" not in PageTexts(study).sections, "a search of an earlier choice: this study has no trials"
    edit_spec(study, trials=1)
    write_new_summary(study)
    shown = PageTexts(study).sections["search"]
    assert "LoRA 30 % learning_rate 0.001 2.5000 0.01 pruned at step 4 (9.0000 there) 0.001 11 1 min 18 s" in shown
    assert "3 steps, about 5.0 s" in shown


def test_the_answer_precedes_how_it_was_reached(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    cell = SearchCell(model="starter", method="full", hyperparameter="learning_rate")
    StudyDir(study).write_search(SearchFile(cells=(cell,)))
    edit_spec(study, trials=1)
    write_budget(study)
    write_new_summary(study)
    page = PageTexts(study)
    order = ["results-title", "charts-title", "compared", "budget", "search", "documents-title", "provenance-title"]
    assert [name for name in page.sections if name in order] == order
    assert "Full fine-tuning 100 %" in page.sections["search"], "a method without a final run has its name too"


def test_models_with_one_last_name_are_distinguished(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, models=("org-a/gpt2", "org-b/gpt2"), methods=("zero_shot", "lora"))
    page = PageTexts(study)
    text = (study / "report.html").read_text(encoding="utf-8")
    assert "LoRA on org-" in page.sections[""]
    for model in ("org-a/gpt2", "org-b/gpt2"):
        assert f"<span>{model}</span>" in text, "the block of the table"
        assert f'<span class="badge">{model}</span>' in text, "further scores"
        assert f"Zero-shot · {model}" in page.sections["results-title"], "notes"
        assert f'"label":"LoRA · {model}"' in text, "the reader"


def test_a_note_of_several_seeds_or_methods_appears_once(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    unstopped = "% of the outputs never stopped by themselves"
    of_lora = (f"98 {unstopped}", f"95 {unstopped}", f"96 {unstopped}", "1 % of 2 % is lost")
    notes = {"zero_shot": ("measured twice",), "lora": ("measured twice", *of_lora)}
    rows = read_summary(study).rows
    change_summary(study, rows=tuple(row.model_copy(update={"notes": notes.get(row.name, ())}) for row in rows))
    shown = PageTexts(study).sections["results-title"]
    assert "Zero-shot, LoRA measured twice" in shown
    assert f"LoRA 95 to 98 {unstopped}" in shown
    assert shown.count("never stopped") == shown.count("measured twice") == 1
    assert "1 % of 2 % is lost" in shown


def test_settings_and_machine_are_shown_without_syntax(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    chosen = {"target_modules": ("q_proj", "v_proj"), "keep_instruction": True}
    edit_records(
        study,
        lambda record: {
            "spec": record.spec.model_copy(
                update={"method": record.spec.method.model_copy(update={"hyperparameters": chosen})}
            )
        },
    )
    change_summary(study, machine=Machine(accelerators=(), os="Linux", memory_bytes=8_000_000_000))
    shown = PageTexts(study).sections["provenance-title"]
    for words in ("target_modules q_proj, v_proj", "keep_instruction true", "accelerators none", "OS Linux", "8.00 GB"):
        assert words in shown


def test_accelerators_are_named_with_their_memory() -> None:
    machine = Machine(accelerators=(Accelerator(name="H100", memory_bytes=80_000_000_000), Accelerator(name="A2")))
    assert sections.machine_facts(machine) == [("accelerators", "H100, 80.0 GB, A2")]


def test_claims_are_shown_with_their_outcome(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    claim = JudgedClaim(text="LoRA is better.", outcome="supported", why="difference +1.00 points", model="starter")
    change_summary(study, claims=(claim,))
    assert "supported : starter: LoRA is better. (difference +1.00 points)" in PageTexts(study).sections["claims"]


def test_ratings_saved_in_the_folder_are_judged_on_the_page(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=6, methods=("zero_shot", "lora"))
    assert "judges them here" in PageTexts(study).sections["readers"], "how ratings come onto the page"
    runs = sorted(run.name for run in load(study).runs)
    ratings = [{"id": f"doc-{index:04d}", "preferred": "lora" if index else None} for index in range(6)]
    content = {"kind": "tuneoff ratings", "study": "x", "runs": runs, "methods": ["lora", "zero_shot"]}
    (study / "ratings-ada.json").write_text(json.dumps({**content, "ratings": ratings}))
    (study / "ratings-bob.json").write_text(HOSTILE)
    shown = PageTexts(study).sections["readers"]
    assert "ratings-ada.json : 6 ratings: 5 prefer lora, 0 prefer zero_shot, 1 neither." in shown
    assert "ratings-bob.json : skipped: " in shown


@pytest.mark.parametrize("block", [None, "a/model"])
def test_the_heading_claims_no_best_method_where_none_is_handed_over(
    block: str | None, fake_study: Callable[..., Path]
) -> None:
    study = fake_study(documents=12, methods=("zero_shot", "lora"))
    summary = write_new_summary(study)
    reason = "No trained method learned anything. No loss fell (3.000 nats per token). Train longer."
    verdict = summary.verdicts[0].model_copy(
        update={"block": block, "no_winner": reason, "too_small": None, "sentences": ("LoRA is the best.",)}
    )
    change_summary(study, verdicts=(verdict,), winner=None, no_winner=reason)
    head = PageTexts(study).sections[""]
    place = "" if block is None else "a/model: "
    answer = head.index(f"{place}No trained method learned anything.")
    assert answer < head.index("No loss fell") < head.index("LoRA is the best.")
    assert head.count("No loss fell") == 1
