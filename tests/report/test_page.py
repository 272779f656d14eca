"""The report page: every record appears, untrusted text is harmless, and nothing is loaded from elsewhere."""

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

from support.report_study import change_summary, draw, draw_page, edit_records, load, read_summary, write_new_summary
from tuneoff.errors import UserError
from tuneoff.results.summary import Crossover, DataSizeVerdict, SizeCurve, SizePoint

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
    charts = [f"quality_against_{axis}" for axis in ("time", "memory", "size")]
    charts += ["loss_curves", "resource_bars", "timeline"]
    assert names == {f"{chart}.{kind}" for chart in charts for kind in ("png", "svg")}
    assert (rich_study / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("which", ["rich_study", "hostile_study", "textless_study"])
def test_every_record_appears(which: str, request: pytest.FixtureRequest) -> None:
    study = request.getfixturevalue(which)
    text = Page(study / "report.html").text
    runs = load(study).runs
    assert runs
    for run in runs:
        assert run.name in text
        assert run.record.status in text


def test_a_run_that_no_row_names_still_appears(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot",))
    first, *rest = read_summary(study).rows
    change_summary(study, rows=(first.model_copy(update={"runs": ()}), *rest))
    assert draw(study).pictures.paths == ()
    text = Page(study / "report.html").text
    assert load(study).runs[0].name in text
    assert "not compared" in text


def test_the_table_says_what_the_summary_says(rich_study: Path) -> None:
    text = " ".join(Page(rich_study / "report.html").text.split())
    summary = read_summary(rich_study)
    for row in summary.rows:
        assert row.title in text
        mean = row.score("rouge1").mean
        if mean is not None:
            assert f"{mean:.1f}" in text
    assert len(summary.sentences) == 3
    for sentence in summary.sentences:
        assert sentence in text
    for failure in summary.failures:
        assert failure.message in text
    assert "95 % bootstrap interval" in text
    assert str(summary.signature) in text
    assert all(line in text for line in summary.data.cleaning)


def test_without_a_verdict_nothing_is_claimed(textless_study: Path) -> None:
    text = " ".join(Page(textless_study / "report.html").text.split())
    assert "LoRA scored highest" in text
    assert "not a verdict" in text


def test_a_study_without_texts_says_so(textless_study: Path) -> None:
    page = Page(textless_study / "report.html")
    assert "run without texts" in page.text
    reader = page.data("reader-data")
    assert not reader["readable"]
    assert [one | {"id": ""} for one in reader["documents"]] == [
        {"id": "", "text": "", "references": [], "fields": {}}
    ] * 4
    assert [system["outputs"] for system in reader["systems"]] == [[]] * len(reader["systems"])
    assert "reader" not in [value for _, name, value in page.attributes if name == "id"]


def test_a_folder_without_documents_is_not_said_to_be_run_without_texts(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    for name in ("manifest.json", "predictions.jsonl", "documents.jsonl"):
        for file in study.rglob(name):
            file.unlink()
    draw_page(study)
    text = " ".join(Page(study / "report.html").text.split())
    assert "--no-texts" not in text
    assert "This folder contains no documents.jsonl" in text


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
    winner = read_summary(rich_study).winner
    assert winner is not None
    page = (rich_study / "report.html").read_text(encoding="utf-8")
    assert "tuneoff summarize DIR FILE" in page
    assert f"runs/{winner.run}/artefact/" in page
    assert f"<bdi>{winner.title}</bdi> on <bdi>starter</bdi>, seed 0: the highest mean." in page


def test_what_to_use_asks_for_the_fields_of_the_instruction(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("zero_shot",), instruction="State the {aspect} of this paper.")
    draw_page(study)
    assert "tuneoff summarize DIR FILE --field aspect=VALUE<" in (study / "report.html").read_text(encoding="utf-8")
    study = fake_study(documents=2, methods=("zero_shot",), instruction="Headline of {source name}.")
    draw_page(study)
    page = Page(study / "report.html")
    assert "tuneoff summarize DIR FILE --field 'source name=VALUE'" in page.text


def test_hostile_text_is_text(hostile_study: Path, rich_study: Path) -> None:
    page, harmless = Page(hostile_study / "report.html"), Page(rich_study / "report.html")
    assert page.tags.count("script") == harmless.tags.count("script") == 6
    assert "</script><script>alert(1)</script><img" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+0007⟩⟨U+0000⟩" in page.text
    assert not re.search("[\x00-\x08\u202a-\u202e]", (hostile_study / "report.html").read_text(encoding="utf-8"))
    # The reader gets the text as it is, and shows it by textContent.
    study = load(hostile_study)
    assert page.data("reader-data")["documents"][0]["text"] == study.documents[0].document


def test_the_reader_holds_every_output_with_its_scores(rich_study: Path) -> None:
    reader = Page(rich_study / "report.html").data("reader-data")
    study = load(rich_study)
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
    run = next(run for run in study.runs if run.name.startswith("lora-s1"))
    expected = run.predictions[17]
    text, scores = lora["outputs"][1]["texts"][17]
    assert text == expected.text
    titles = [metric["title"] for metric in reader["metrics"]]
    assert expected.scores["rouge1"] is not None
    assert scores[titles.index("ROUGE-1")] == round(expected.scores["rouge1"], 3)


def test_the_reader_knows_which_direction_of_a_score_is_a_merit(rich_study: Path) -> None:
    metrics = Page(rich_study / "report.html").data("reader-data")["metrics"]
    directions = {metric["title"]: metric["higher_is_better"] for metric in metrics}
    assert directions["ROUGE-1"] is True
    assert directions["Repetition"] is False
    assert directions["Length"] is None


def test_the_notes_of_a_chart_follow_its_numbers(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    points = tuple(SizePoint(fraction=size / 100, examples=size, mean=20.0 + size) for size in (10, 100))
    sizes = DataSizeVerdict(
        block=None,
        level=0.95,
        curves=tuple(SizeCurve(method=name, title=f"<{name}>", points=points) for name in ("zero_shot", "lora")),
        crossovers=(
            Crossover(
                first="zero_shot",
                second="lora",
                outcome="located",
                small="zero_shot",
                large="lora",
                low=10,
                high=100,
                estimate=50,
                band=(),
            ),
        ),
        sentences=(),
        notes=(),
    )
    change_summary(study, data_sizes=(sizes,))
    draw_page(study)
    assert "<lora> overtakes <zero_shot> between 10 and 100 examples read." in Page(study / "report.html").text


def test_the_report_imports_no_torch() -> None:
    code = "import sys, tuneoff.report; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'peft')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_without_a_study_file_ends_in_one_sentence(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=1, methods=("zero_shot",))
    (study / "study.json").unlink()
    with pytest.raises(UserError, match=r"contains no study\.json; name the folder"):
        draw_page(study)


@pytest.mark.parametrize("content", ["{", '{"rows": 7}', b"\xff\xfe"])
def test_a_damaged_study_file_ends_in_one_sentence(content: str | bytes, fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=1, methods=("zero_shot",))
    (study / "study.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=r"study\.json") as error:
        draw_page(study)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["documents.jsonl", "baselines/lead1.jsonl", "predictions.jsonl"])
def test_a_damaged_line_is_named(name: str, fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=1, methods=("zero_shot",))
    path = load(study).runs[0].dir.path / name if name == "predictions.jsonl" else study / name
    path.write_text('{"id": 5}\n')
    with pytest.raises(UserError, match=re.escape(path.name)):
        draw_page(study)


def test_a_row_cannot_name_a_file(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=1, methods=("zero_shot",), outside={"x": "X"})
    (study.parent / "secret.jsonl").write_text('{"id": "doc-0000", "text": "secret"}\n')
    *rest, last = read_summary(study).rows
    change_summary(study, rows=(*rest, last.model_copy(update={"name": "../../secret"})))
    draw_page(study)
    assert "secret" not in json.dumps(Page(study / "report.html").data("reader-data"))


def test_an_earlier_report_is_replaced_after_new_runs(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    first = write_new_summary(study)
    edit_records(study, lambda _: {"notes": ("a word of a later run",), "finished_at": "2026-12-01T00:00:00+00:00"})
    second = write_new_summary(study)
    draw_page(study)
    assert "a word of a later run" in (study / "report.html").read_text(encoding="utf-8")
    assert first.created_at < second.created_at == "2026-12-01T00:00:00+00:00"
