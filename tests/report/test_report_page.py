import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuneoff.report.folder import Finding, Row, read_study

from tuneoff.errors import UserError
from tuneoff.report import render, sections
from tuneoff.report.escaping import all_visible, embedded_json, visible
from tuneoff.report.table import build
from tuneoff.report.theme import Cast
from tuneoff.results.run_record import read_record, run_folders, write_json

pytestmark = pytest.mark.xdist_group("drawn studies")


class Page(HTMLParser):
    """Tags, attributes, scripts and visible text of a page, read as a browser would."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text = ""
        self._inside: tuple[str, dict[str, str | None]] | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = (tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[0] == "script":
            self.scripts.append((self._inside[1], data))
        elif self._inside and self._inside[0] == "style":
            self.styles.append(data)
        else:
            self.text += data

    def data(self, name: str) -> Any:
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == name)


def test_the_page_and_all_figures_are_written(rich_study: Path) -> None:
    names = {path.name for path in (rich_study / "figures").iterdir()}
    charts = ("quality_against_time", "quality_against_memory", "quality_against_size")
    charts += ("loss_curves", "resource_bars", "timeline")
    assert names == {f"{chart}.{kind}" for chart in charts for kind in ("png", "svg")}
    assert (rich_study / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("which", ["rich_study", "hostile_study", "textless_study"])
def test_every_record_appears(which: str, request: pytest.FixtureRequest) -> None:
    study = request.getfixturevalue(which)
    text = Page(study / "report.html").text
    folders = run_folders(study)
    assert folders
    for folder in folders:
        assert folder.name in text
        assert read_record(folder).status in text


def test_a_run_that_no_row_names_still_appears(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot",))
    summary = json.loads((study / "summary.json").read_text())
    summary["rows"][0]["runs"] = []
    write_json(study / "summary.json", summary)
    assert [path.name for path in render(study)] == ["report.html"]
    text = Page(study / "report.html").text
    assert run_folders(study)[0].name in text
    assert "not compared" in text


def test_the_table_says_what_the_summary_says(rich_study: Path) -> None:
    text = " ".join(Page(rich_study / "report.html").text.split())
    summary = json.loads((rich_study / "summary.json").read_text())
    for row in summary["rows"]:
        assert row["title"] in text
        mean = row["scores"]["rouge1"]["mean"]
        if mean is not None:
            assert f"{mean:.1f}" in text
    for sentence in summary["verdict"]["sentences"]:
        assert sentence in text
    for failure in summary["failures"]:
        assert failure["message"] in text
    assert "95 % bootstrap interval" in text
    assert summary["signature"] in text
    assert all(line in text for line in summary["data"]["cleaning"])


def test_without_a_verdict_nothing_is_claimed(textless_study: Path) -> None:
    text = " ".join(Page(textless_study / "report.html").text.split())
    assert "LoRA scored highest" in text
    assert "not a verdict" in text


def test_a_study_without_texts_says_so(textless_study: Path) -> None:
    page = Page(textless_study / "report.html")
    assert "made without texts" in page.text
    assert page.data("reader-data")["documents"] == []
    assert "reader" not in [value for _, name, value in page.attributes if name == "id"]


def test_the_policy_names_exactly_the_scripts_of_the_page(hostile_study: Path) -> None:
    page = Page(hostile_study / "report.html")
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy

    def named(kind: str) -> list[str]:
        directive = next(part for part in policy.split("; ") if part.startswith(kind))
        return re.findall(r"'sha256-([^']+)'", directive)

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    code = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    assert [digest(text) for text in code] == named("script-src")
    assert [digest(text) for text in page.styles] == named("style-src")
    assert not any(attributes.get("src") for attributes, _ in page.scripts)


def test_nothing_comes_from_elsewhere(hostile_study: Path) -> None:
    page = Page(hostile_study / "report.html")
    assert not {"img", "iframe", "link", "object", "embed", "base", "b-old"} & set(page.tags)
    assert not [one for one in page.attributes if one[1].startswith("on") or one[1] == "style"]
    targets = {value for _, name, value in page.attributes if name in {"href", "src", "action"}}
    assert targets
    assert not [one for one in targets - {"rating.html"} if not one.startswith(("#", "figures/"))]


def test_the_page_says_what_to_use(rich_study: Path) -> None:
    use = json.loads((rich_study / "summary.json").read_text())["use"]
    page = (rich_study / "report.html").read_text(encoding="utf-8")
    assert "tuneoff summarize DIR FILE" in page
    assert f"runs/{use['run']}/artefact/" in page
    assert f"<bdi>{use['title']}</bdi> on <bdi>starter</bdi>, seed 0: the highest mean." in page


def test_what_to_use_asks_for_the_fields_of_the_instruction(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot",), instruction="State the {aspect} of this paper.")
    render(study)
    assert "tuneoff summarize DIR FILE --field aspect=VALUE<" in (study / "report.html").read_text(encoding="utf-8")


def test_hostile_text_is_text(hostile_study: Path, rich_study: Path) -> None:
    page, harmless = Page(hostile_study / "report.html"), Page(rich_study / "report.html")
    assert page.tags.count("script") == harmless.tags.count("script") == 5
    assert "</script><script>alert(1)</script><img" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+0007⟩⟨U+0000⟩" in page.text
    assert not re.search("[\x00-\x08\u202a-\u202e]", (hostile_study / "report.html").read_text(encoding="utf-8"))
    # The reader gets the text as it is, and shows it by textContent.
    study = read_study(hostile_study)
    assert page.data("reader-data")["documents"][0]["text"] == study.documents[0].document


@given(st.text(st.characters(codec=None, categories=None)))
def test_embedded_json_cannot_leave_its_block(text: str) -> None:
    block = embedded_json({"text": text, text: [1, None]})
    assert not set(block) & set("<>&\u2028\u2029")
    block.encode("utf-8")
    assert json.loads(block) == {"text": text, text: [1, None]}


@given(st.text(st.characters(codec=None, categories=None)))
def test_visible_text_is_printable_and_loses_nothing_printable(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text
    assert all_visible({text: [text, 1.5, None]}) == {shown: [shown, 1.5, None]}


def test_the_reader_holds_every_output_with_its_scores(rich_study: Path) -> None:
    reader = Page(rich_study / "report.html").data("reader-data")
    study = read_study(rich_study)
    assert len(reader["documents"]) == len(study.documents) == 618
    labels = [system["label"] for system in reader["systems"]]
    assert labels == [
        "Zero-shot",
        "LoRA",
        "Full fine-tuning",
        "LEAD-1",
        "LEAD-3",
        "Oracle sentence",
        "A colleague's API",
    ]
    lora = reader["systems"][1]
    assert [output["seed"] for output in lora["outputs"]] == [0, 1]
    run = next(name for name in study.records if name.startswith("lora-s1"))
    expected = study.predictions[run][17]
    text, scores = lora["outputs"][1]["texts"][17]
    assert text == expected.text
    titles = [metric["title"] for metric in reader["metrics"]]
    assert scores[titles.index("ROUGE-1")] == expected.scores["rouge1"]


def test_the_reader_knows_which_direction_of_a_score_is_a_merit(rich_study: Path) -> None:
    metrics = Page(rich_study / "report.html").data("reader-data")["metrics"]
    directions = {metric["title"]: metric["higher_is_better"] for metric in metrics}
    assert directions["ROUGE-1"] is True
    assert directions["Repetition"] is False
    assert directions["Length"] is None


def row(name: str, quality: float | None, model: str = "m", **costs: Any) -> Row:
    scores = {"rouge1": {"mean": quality, "low": None, "high": None}}
    return Row.model_validate(
        {"name": name, "title": name, "kind": "method", "model": model, "scores": scores, "costs": costs}
    )


def test_best_is_per_model_and_a_cost_of_nothing_is_no_merit() -> None:
    rows = [
        row("zero_shot", 20.0, train_seconds=0.0, peak_memory_bytes=5e8),
        row("lora", 33.0, train_seconds=90.0, peak_memory_bytes=7e8),
        row("full", 32.0, train_seconds=140.0, peak_memory_bytes=9e8),
        row("lora", 12.0, model="other", train_seconds=1.0),
        row("full", 11.0, model="other", train_seconds=2.0),
    ]
    first, second = build(rows, {}, Cast([])).blocks
    assert [line.primary.best for line in first.lines] == [False, True, False]
    assert [line.primary.best for line in second.lines] == [True, False]
    assert [line.costs[0].best for line in first.lines] == [False, True, False]
    assert [line.costs[1].best for line in first.lines] == [True, False, False]


def test_a_failed_method_is_best_at_nothing_and_equal_numbers_share_the_mark() -> None:
    rows = [
        row("zero_shot", 20.0, train_seconds=0.0),
        row("soft_prompt", None, train_seconds=10.0).model_copy(update={"status": {"diverged": 1}}),
        row("lora", 33.01, train_seconds=90.0),
        row("full", 33.04, train_seconds=140.0),
    ]
    (block,) = build(rows, {}, Cast([])).blocks
    assert [line.primary.best for line in block.lines] == [False, False, True, True]
    assert [line.costs[0].best for line in block.lines] == [False, False, True, False]
    assert block.lines[1].badges == ("1 of 1 failed",)


def test_a_missing_cost_points_to_its_reason_once() -> None:
    reasons = {"energy_joules": "no counter"}
    rows = [row(name, 20.0, energy_joules=None, reasons=reasons) for name in ("lora", "full")]
    measured = row("zero_shot", 20.0, energy_joules=5.0)
    table = build([*rows, measured], {}, Cast([]))
    assert table.footnotes == ["Energy: no counter"]
    assert [line.costs[0].note for line in table.blocks[0].lines] == [1, 1, None]
    assert [line.costs[0].text for line in table.blocks[0].lines] == ["–", "–", "5 J"]
    assert table.unmeasured == ()


def test_a_cost_that_nothing_measured_takes_no_column(rich_study: Path) -> None:
    reasons = {"energy_joules": "no counter"}
    table = build([row(name, 20.0, energy_joules=None, reasons=reasons) for name in ("lora", "full")], {}, Cast([]))
    assert (table.costs, table.footnotes) == ((), [])
    assert table.unmeasured == ("Energy: no counter",)
    page = (rich_study / "report.html").read_text(encoding="utf-8")
    assert "<p>Not measured. Energy: the machine exposes no RAPL domain.</p>" in page


def test_many_findings_of_a_kind_do_not_push_the_results_away() -> None:
    many = [Finding(check="overfit", where=f"lora-s{seed}", message="rose") for seed in range(13)]
    few = [Finding(check="seed", where=name, message="apart") for name in ("lora", "full")]
    (shown, more), (all_of_them, none) = sections.findings([*many[:5], *few, *many[5:]])
    assert [*shown, *more] == many
    assert (len(shown), all_of_them, none) == (2, few, [])
    assert sections.findings(many[:4]) == [(many[:4], [])]


@pytest.mark.parametrize("name", ["study.json", "summary.json"])
@pytest.mark.parametrize("content", [None, "{", '{"rows": 7}', b"\xff\xfe"])
def test_a_folder_that_is_no_study_ends_in_one_sentence(
    name: str, content: str | bytes | None, fake_study: Callable[..., Path]
) -> None:
    study = fake_study(documents=1, methods=("zero_shot",))
    (study / name).unlink()
    if content is not None:
        (study / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=re.escape(name)) as error:
        render(study)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["documents.jsonl", "baselines/lead1.jsonl", "predictions.jsonl"])
def test_a_damaged_line_is_named(place: str, fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=1, methods=("zero_shot",))
    path = run_folders(study)[0] / place if place == "predictions.jsonl" else study / place
    path.write_text('{"id": 5}\n')
    with pytest.raises(UserError, match=re.escape(path.name)):
        render(study)


def test_a_row_cannot_read_outside_of_the_study(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=1, methods=("zero_shot",), outside={"x": "X"})
    (study.parent / "secret.jsonl").write_text('{"id": "doc-0000", "text": "secret"}\n')
    summary = json.loads((study / "summary.json").read_text())
    summary["rows"][-1]["name"] = "../../secret"
    write_json(study / "summary.json", summary)
    assert "../../secret" not in read_study(study).other_predictions


def test_the_report_imports_no_torch() -> None:
    code = "import sys, tuneoff.report; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'peft')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
