"""What the page says beside the numbers: the budget, runs that were not computed alike, runs that had company."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tuneoff.report.company import alone, of_clocks, of_costs
from tuneoff.report.folder import read_study

from tuneoff.cli import main
from tuneoff.cli.show import result_as_text
from tuneoff.report import figures, render
from tuneoff.report.theme import Cast
from tuneoff.results.run_record import BUDGET_FILE, Record, read_record, run_folders, write_json, write_record
from tuneoff.spec import StudySpec
from tuneoff.study.budget_file import Plan, as_data
from tuneoff.verdict.summarize import summarize

HOSTILE = "</h2><script>alert(1)</script>\x1b[31m\u202e"


class Texts(HTMLParser):
    """The words of a page outside of scripts and styles, its sections by the id of their heading, its tags.

    The figures beside the page, which take two seconds, are written when they are asked for.
    """

    def __init__(self, study: Path, *, beside: bool = False) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.captions: dict[str, str] = {}
        self.tags: list[str] = []
        self._section = self._inside = ""
        with pytest.MonkeyPatch.context() as patch:
            if not beside:
                patch.setattr(figures, "write", lambda *_: [])
            render(study)
        self.feed((study / "report.html").read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self._inside = tag
        if tag == "section":
            self._section = known["aria-labelledby"]
        if "data-figure" in known:
            self.captions[known["data-figure"]] = known["aria-label"]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style") and data.strip():
            self.sections[self._section] = f"{self.sections.get(self._section, '')} {' '.join(data.split())}"


def budget(study: Path, **what: Any) -> None:
    """Write `budget.json` for the study of a folder."""
    spec = StudySpec.model_validate_json((study / "study.json").read_text())
    plan = Plan(spec, 1104.0, what.pop("given_up", ("seeds 3 -> 1",)), what.pop("fits", True))
    write_json(study / BUDGET_FILE, {**as_data(plan, spec, 1200.0, "examples", {}), **what})


def searches(study: Path) -> None:
    """Make it a study with a trial for each method."""
    write_json(study / "study.json", {**json.loads((study / "study.json").read_text()), "trials": 1})


def each(study: Path, change: Callable[[Record], dict[str, Any]]) -> list[Record]:
    """Change all records of a folder; the new ones."""
    made = []
    for folder in run_folders(study):
        record = read_record(folder)
        made.append(record.model_copy(update=change(record)))
        write_record(folder, made[-1])
    return made


def shared(record: Record) -> dict[str, Any]:
    assert record.resources is not None
    return {"resources": record.resources.model_copy(update={"processes": 2})}


def timed(study: Path, method: str) -> None:
    """A timing run beside the run of a method, alone, with every token in half the time."""
    [record] = [read_record(folder) for folder in run_folders(study) if folder.name.startswith(method)]
    assert record.resources is not None
    phases = {
        name: phase.model_copy(update={"wall_seconds": phase.wall_seconds / 2})
        for name, phase in record.resources.phases.items()
    }
    write_record(
        study / "runs" / f"{method}-timing",
        record.model_copy(
            update={
                "spec": record.spec.model_copy(update={"role": "timing"}),
                "resources": record.resources.model_copy(update={"processes": 1, "phases": phases}),
            }
        ),
    )


def test_without_a_budget_there_is_no_word_of_it(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    summarize(study)
    assert "budget" not in Texts(study).sections


def test_the_page_tells_what_was_asked_given_up_and_taken(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    budget(study, given_up=("test documents 618 -> 200", "seeds 3 -> 1"))
    assert summarize(study)["budget"]["took_seconds"] == 240
    told = Texts(study).sections["budget"]
    for words in ("within 20 min 00 s", "test documents 618 → 200", "seeds 3 → 1", "about 18 min 24 s", "4 min 00 s"):
        assert words in told


def test_a_budget_that_is_too_small_and_equal_time_are_told(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    spec = json.loads((study / "study.json").read_text())
    write_json(study / "study.json", {**spec, "steps": {"lora": 1234}})
    budget(study, given_up=(), fits=False, budget_seconds=None, equal="time")
    summarize(study)
    told = Texts(study).sections["budget"]
    assert "the same training time" in told
    assert "LoRA 1,234" in told
    assert "nothing smaller could be judged" in told
    assert "within" not in told


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_a_damaged_budget_is_one_sentence(fake_study: Callable[..., Path], content: bytes) -> None:
    study = fake_study(documents=2, methods=("lora",))
    (study / BUDGET_FILE).write_bytes(content)
    summarize(study)
    assert "budget.json is damaged" in Texts(study).sections["budget"]


def test_words_of_a_budget_are_escaped(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    plain = Texts(study).tags.count("script")
    budget(study, given_up=(HOSTILE,))
    summarize(study)
    page = Texts(study)
    assert page.tags.count("script") == plain
    assert "</h2><script>alert(1)</script>⟨U+001B⟩[31m⟨U+202E⟩" in page.sections["budget"]


def test_runs_in_another_arithmetic_are_told_loudly_the_rest_in_notes(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))

    def mixed(record: Record) -> dict[str, Any]:
        lora = record.spec.method.name == "lora"
        return {
            "details": {"dtype": "float32" if lora else "bfloat16", "device": "cpu"},
            "provenance": {"machine": {"cpu": HOSTILE if lora else "EPYC", "usable_cores": 2}},
        }

    each(study, mixed)
    found = summarize(study)["mixed"]
    assert [(one["aspect"], one["changes_scores"]) for one in found] == [("arithmetic", True), ("machine", False)]
    page = Texts(study)
    assert "bfloat16 (1 run: Zero-shot), float32 (1 run: LoRA)" in page.sections["mixed"]
    assert "machine" not in page.sections["mixed"].partition("Differences between")[0]
    assert "runs differ in machine" in page.sections["results-title"]
    assert "</h2><script>alert(1)</script>⟨U+001B⟩" in page.sections["results-title"]
    assert "float32" in page.sections["provenance-title"]
    shown = result_as_text(study)
    assert "CAUTION: runs differ in arithmetic" in shown
    assert "note: runs differ in machine" in shown
    assert "\x1b" not in shown


def test_runs_computed_alike_are_not_told(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    assert summarize(study)["mixed"] == []
    page = Texts(study)
    assert "mixed" not in page.sections
    assert "CAUTION" not in result_as_text(study)
    assert not any("shared" in caption for caption in page.captions.values())


COSTLY = {"quality_against_time", "resource_bars", "timeline"}


def test_no_chart_shows_shared_times_in_silence(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    each(study, shared)
    summarize(study)
    captions = Texts(study).captions
    assert {name for name, caption in captions.items() if "2 runs shared the machine" in caption} == COSTLY
    timed(study, "lora")
    summarize(study)
    captions = Texts(study, beside=True).captions
    for name in COSTLY - {"timeline"}:
        assert "those of a timing run alone, but for Zero-shot, measured in company" in captions[name]
        assert "timing run" in (study / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    assert "slower than a run alone" in (study / "figures" / "timeline.svg").read_text(encoding="utf-8")


def test_charts_of_costs_show_the_times_of_the_timing_run(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("lora",))
    each(study, shared)
    timed(study, "lora")
    summarize(study)
    found = read_study(study)
    [record], cast = list(found.records.values()), Cast(found.records.values())
    assert record.resources is not None
    measured = sum(phase.wall_seconds for phase in record.resources.phases.values())
    costs = alone([record], found.timing)
    sets = figures.specification(figures.quality_against(costs, "time", cast))["datasets"].values()
    [row] = [row for rows in sets for row in rows if "cost" in row]
    assert row["cost"] * 60 == pytest.approx(measured / 2)
    said = of_costs([record], found.timing, cast)
    assert said == "up to 2 runs shared the machine: time and energy are those of a timing run alone"
    assert of_clocks([record]) is not None


def test_a_hostile_name_in_a_caption_is_text(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    each(study, shared)
    timed(study, "lora")
    summary = summarize(study)
    for row in summary["rows"]:
        row["title"] = f"{HOSTILE} {row['name']}"
    write_json(study / "summary.json", summary)
    page = Texts(study)
    assert "</h2><script>alert(1)</script>⟨U+001B⟩[31m⟨U+202E⟩ zero_shot, measured in" in page.captions["resource_bars"]
    assert not {"\x1b", "\u202e"} & set((study / "report.html").read_text(encoding="utf-8"))


def test_the_page_says_what_was_compared_tuned_and_fixed(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    spec = json.loads((study / "study.json").read_text())
    assert "no trials" in " ".join(Texts(study).sections.values())
    spec |= {
        "methods": ["zero_shot", "lora"],
        "trials": 3,
        "hyperparameters": {"lora": {"r": 4}},
        "fractions": [0.1, 1],
    }
    write_json(study / "study.json", spec)
    cell = {"model": "starter", "method": "lora", "hyperparameter": "learning_rate", "trials": []}
    write_json(study / "search.json", {"cells": [cell]})
    summarize(study)
    told = " ".join(Texts(study).sections.values())
    assert "Zero-shot, LoRA" in told
    assert "3 trials and a reserve one for each method, at each share of the data: lora.learning_rate" in told
    assert "lora.r = 4" in told
    assert "10 %, 100 %; at least 50 steps below all, but no more than all takes" in told


def test_what_a_share_of_the_data_lacks_is_told(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    summary = json.loads((study / "summary.json").read_text())
    sizes = {"sentences": ["LoRA is better."], "notes": ["At 10 % of the data: seed 1 is left out."]}
    write_json(study / "summary.json", {**summary, "data_sizes": [sizes]})
    assert "LoRA is better. At 10 % of the data: seed 1 is left out." in Texts(study).sections["sizes"]


def test_an_interrupted_study_can_be_drawn(fake_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    (study / "summary.json").unlink(missing_ok=True)
    assert main(["report", str(study)]) == 0
    assert capsys.readouterr().out.strip() == str(study / "report.html")


def test_the_search_is_told_by_names_and_shares(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    cell = {"model": "starter", "method": "lora", "fraction": 0.3, "hyperparameter": "learning_rate", "chosen": 0.001}
    trials = [{"value": 0.001, "validation_loss": 2.5, "status": "finished", "steps": 7, "seconds": 75.0}]
    write_json(study / "search.json", {"cells": [{**cell, "trials": trials}]})
    summarize(study)
    assert "search" not in Texts(study).sections, "a search of an earlier choice: this study has no trials"
    searches(study)
    summarize(study)
    told = Texts(study).sections["search"]
    assert "LoRA 30 % learning_rate 0.001 2.5000 0.001 7 1 min 15 s" in told


def test_the_answer_stands_before_how_it_was_reached(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    cell = {"model": "starter", "method": "full", "fraction": 1.0, "hyperparameter": "learning_rate", "trials": []}
    write_json(study / "search.json", {"cells": [cell]})
    searches(study)
    budget(study)
    summarize(study)
    page = Texts(study)
    order = ["results-title", "charts-title", "compared", "budget", "search", "documents-title", "provenance-title"]
    assert [name for name in page.sections if name in order] == order
    assert "Full fine-tuning 100 %" in page.sections["search"], "a method without a final run has its name too"


def test_models_with_one_last_name_are_told_apart(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, models=("org-a/gpt2", "org-b/gpt2"), methods=("zero_shot", "lora"))
    page = Texts(study)
    text = (study / "report.html").read_text(encoding="utf-8")
    assert "LoRA on org-" in page.sections[""]
    for model in ("org-a/gpt2", "org-b/gpt2"):
        assert f"<span>{model}</span>" in text, "the block of the table"
        assert f'<span class="badge">{model}</span>' in text, "further scores"
        assert f"Zero-shot · {model}" in page.sections["results-title"], "notes"
        assert f'"label":"LoRA · {model}"' in text, "the reader"


def test_notes_that_seeds_or_methods_share_stand_once(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot", "lora"))
    summary = json.loads((study / "summary.json").read_text())
    unstopped = "% of the outputs never stopped by themselves"
    for row in summary["rows"]:
        row["notes"] = ["measured in company"] if row["kind"] == "method" else []
        if row["name"] == "lora":
            row["notes"] += [f"98 {unstopped}", f"95 {unstopped}", f"96 {unstopped}", "1 % of 2 % is lost"]
    write_json(study / "summary.json", summary)
    told = Texts(study).sections["results-title"]
    assert "Zero-shot, LoRA measured in company" in told
    assert f"LoRA 95 to 98 {unstopped}" in told
    assert told.count("never stopped") == told.count("in company") == 1
    assert "1 % of 2 % is lost" in told


def test_ratings_saved_in_the_folder_are_judged_on_the_page(
    fake_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study = fake_study(documents=6, methods=("zero_shot", "lora"))
    assert "judged here" in Texts(study).sections["readers"], "how ratings come onto the page"
    runs = [folder.name for folder in run_folders(study)]
    ratings = [{"id": f"doc-{place:04d}", "preferred": "lora" if place else None} for place in range(6)]
    of = {"kind": "tuneoff ratings", "study": "x", "runs": sorted(runs), "methods": ["lora", "zero_shot"]}
    write_json(study / "ratings-ada.json", {**of, "ratings": ratings})
    (study / "ratings-bob.json").write_text(HOSTILE)
    page = Texts(study)
    told = page.sections["readers"]
    assert "ratings-ada.json : 6 ratings: 5 prefer lora, 0 prefer zero_shot, 1 neither." in told
    assert "ratings-bob.json : skipped: " in told
    (study / "ratings-bob.json").unlink()
    capsys.readouterr()
    assert main(["judge", str(study)]) == 0
    assert "5 prefer lora" in capsys.readouterr().out


def test_settings_and_machine_are_told_without_marks_of_a_language(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    chosen = {"target_modules": ("q_proj", "v_proj"), "keep_instruction": True}
    each(
        study,
        lambda record: {
            "spec": record.spec.model_copy(
                update={"method": record.spec.method.model_copy(update={"hyperparameters": chosen})}
            )
        },
    )
    summary = json.loads((study / "summary.json").read_text())
    write_json(study / "summary.json", {**summary, "machine": {"accelerators": [], "os": "Linux", "memory_bytes": 8e9}})
    told = Texts(study).sections["provenance-title"]
    for words in ("target_modules q_proj, v_proj", "keep_instruction true", "accelerators none", "OS Linux", "8.00 GB"):
        assert words in told


def test_a_report_knows_what_came_after_the_last_one(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    assert main(["report", str(study)]) == 0
    first = json.loads((study / "summary.json").read_text())
    each(study, lambda record: {"notes": ("a word of a later run",), "finished_at": "2026-12-01T00:00:00+00:00"})
    assert main(["report", str(study)]) == 0
    assert "a word of a later run" in (study / "report.html").read_text(encoding="utf-8")
    assert (
        first["created_at"]
        < json.loads((study / "summary.json").read_text())["created_at"]
        == "2026-12-01T00:00:00+00:00"
    )


def test_outside_systems_of_an_earlier_choice_have_no_row(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"), outside={"api": "An API", "gone": "Gone"})
    spec = json.loads((study / "study.json").read_text())
    write_json(study / "study.json", {**spec, "predictions": {"api": "api.jsonl"}})
    summary = summarize(study)
    assert [row["name"] for row in summary["rows"] if row["kind"] == "outside"] == ["api"]
    assert "gone" not in json.dumps(summary["verdict"])
