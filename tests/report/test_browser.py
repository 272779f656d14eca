"""The page in a real browser, opened from disk."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from support.report_study import change_summary, draw_page, load, read_summary
from tuneoff.cli import verdicts
from tuneoff.errors import UserError
from tuneoff.local_page import LocalPage
from tuneoff.report import reader_data
from tuneoff.report.score_page import write_score_page
from tuneoff.report.theme import HUES
from tuneoff.report.watch_page import watch_page
from tuneoff.results.summary import DataSizeVerdict, Finding
from tuneoff.scores.score_data import ScoreData
from tuneoff.study.watching import StudyView
from tuneoff.verdict.score_verdict import judge_scores, summarize_scores

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("drawn studies")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        message = "Debian's chromium is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=20_000)  # milliseconds; for machines that do much else
    with sync_playwright() as playwright:
        # In a container chromium runs as root, where its own sandbox refuses to start.
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@dataclass
class Visit:
    """An open page with everything that it complained about or asked for."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def scroll_through(self) -> None:
        """Bring every lazily drawn part onto the screen, and wait until all charts stand."""
        charts = self.page.locator(".chart")
        for index in range(charts.count()):
            charts.nth(index).scroll_into_view_if_needed()
        expect(self.page.locator(".chart[data-drawn]")).to_have_count(charts.count())


class Visits:
    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.contexts: list[Any] = []

    def open(self, study: Path, *, width: int = 1360, scheme: str = "light") -> Visit:
        return self.open_file(study / "report.html", width=width, scheme=scheme)

    def open_file(self, file: Path, *, width: int = 1360, scheme: str = "light") -> Visit:
        # Without smooth scrolling: a busy machine would click where the button was before.
        context = self.browser.new_context(
            viewport={"width": width, "height": 850}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.contexts.append(context)
        context.set_default_timeout(20_000)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('policy', e.violatedDirective))"
        )
        visit = Visit(context.new_page())
        page = visit.page
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))

        def dismiss(dialog: Any) -> None:
            visit.complaints.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.on(
            "console",
            lambda message: visit.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.goto(file.as_uri())
        return visit

    def settled(self, study: Path) -> Any:
        """An open page whose charts all stand: one that is drawn later moves the buttons below it away from a click."""
        visit = self.open(study)
        visit.scroll_through()
        return visit.page


@pytest.fixture
def visits(browser: Any) -> Iterator[Visits]:
    made = Visits(browser)
    yield made
    for context in made.contexts:
        context.close()


@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [
        ("rich_study", 1360, "light"),
        pytest.param("rich_study", 1360, "dark", marks=pytest.mark.slow),
        pytest.param("rich_study", 375, "light", marks=pytest.mark.slow),
        ("rich_study", 375, "dark"),
        ("hostile_study", 1360, "light"),
        pytest.param("hostile_study", 375, "dark", marks=pytest.mark.slow),
        pytest.param("textless_study", 375, "light", marks=pytest.mark.slow),
    ],
)
def test_quiet_and_within_the_screen(
    which: str, width: int, scheme: str, visits: Visits, request: pytest.FixtureRequest
) -> None:
    study = request.getfixturevalue(which)
    visit = visits.open(study, width=width, scheme=scheme)
    visit.scroll_through()
    assert visit.requests == [(study / "report.html").as_uri()]
    assert visit.complaints == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    charts = visit.page.locator(".chart")
    assert charts.count() == 6
    for index in range(charts.count()):
        assert charts.nth(index).get_attribute("data-drawn") == scheme
        assert charts.nth(index).locator("svg").count() >= 1
        assert charts.nth(index).get_attribute("aria-label")


def test_the_watch_for_complaints_works(rich_study: Path, visits: Visits) -> None:
    visit = visits.open(rich_study)
    visit.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
    visit.page.wait_for_timeout(200)
    assert any("policy img-src" in one for one in visit.complaints)


def test_charts_follow_the_scheme_while_the_page_is_open(rich_study: Path, visits: Visits) -> None:
    visit = visits.open(rich_study)
    visit.scroll_through()
    light, dark = HUES[1]

    def strokes(colour: str) -> int:
        chart = visit.page.locator("[data-figure=loss_curves]")
        return int(chart.locator(f"[stroke='{colour}']").count())

    background = "getComputedStyle(document.body).backgroundColor"
    before = visit.page.evaluate(background)
    assert strokes(light) > 0
    assert strokes(dark) == 0
    visit.page.emulate_media(color_scheme="dark")
    expect(visit.page.locator(".chart[data-drawn=dark]")).to_have_count(6)
    assert strokes(light) == 0
    assert strokes(dark) > 0
    assert visit.page.evaluate(background) != before


def test_charts_answer_the_pointer(rich_study: Path, visits: Visits) -> None:
    visit = visits.open(rich_study)
    visit.scroll_through()
    visit.page.locator("[data-figure=resource_bars] .mark-rect path").last.hover()
    tip = visit.page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert "Full fine-tuning" in tip.inner_text()
    assert visit.complaints == []


def test_the_list_is_made_lazily_and_pages_turn(rich_study: Path, visits: Visits) -> None:
    page = visits.settled(rich_study)
    documents = load(rich_study).documents
    assert page.locator("#list li").count() < 200 < len(documents)
    assert page.locator("#position").inner_text() == "1 of 618"
    assert page.locator("#previous").is_disabled()
    page.locator("#next").click()
    assert page.locator("#content .about code").inner_text() == documents[1].id
    page.locator("#documents-title").click()
    page.keyboard.press("ArrowRight")
    assert page.locator("#position").inner_text() == "3 of 618"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#position").inner_text() == "2 of 618"
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#position").inner_text() == "3 of 618"
    page.locator("#list li").nth(60).click()
    assert page.locator("#content .about code").inner_text() == documents[60].id
    page.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight; }")
    expect(page.locator("#list li").nth(140)).to_be_attached()


def test_arrows_in_the_search_field_move_the_caret_not_the_page(rich_study: Path, visits: Visits) -> None:
    page = visits.settled(rich_study)
    page.locator("#search").fill("clinical")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#count")).to_contain_text(" of 618 texts")
    assert page.locator("#position").inner_text().startswith("1 of ")


def test_search_finds_documents_and_outputs(rich_study: Path, visits: Visits) -> None:
    page = visits.settled(rich_study)
    documents = load(rich_study).documents
    page.locator("#search").fill("DOC-0123")
    expect(page.locator("#count")).to_have_text("1 of 618 texts")
    assert page.locator("#content .about code").inner_text() == documents[123].id
    page.locator("#search").fill("by lora, seed 1")
    expect(page.locator("#count")).to_have_text("618 texts")
    page.locator("#search").fill("no such words anywhere")
    expect(page.locator("#count")).to_have_text("0 of 618 texts")
    assert page.locator("#content").inner_text() == "No text matches."
    assert page.locator("#next").is_disabled()


def test_sorting_by_score_and_by_difference(rich_study: Path, visits: Visits) -> None:
    page = visits.settled(rich_study)
    study = load(rich_study)

    def scores(start: str) -> dict[str, float]:
        run = next(run for run in study.runs if run.name.startswith(start))
        return {row.id: row.scores["rouge1"] or 0.0 for row in run.predictions}

    lora, full = scores("lora-s0"), scores("full-s0")
    opened = page.locator("#content .about code")
    page.locator("#sort").select_option(label="LoRA")
    assert opened.inner_text() == max(lora, key=lora.__getitem__)
    assert page.locator("#list .value").first.inner_text() == f"{max(lora.values()):.1f}"
    page.locator("#direction").click()
    assert opened.inner_text() == min(lora, key=lora.__getitem__)
    page.locator("#direction").click()
    page.locator("#minus").select_option(label="Full fine-tuning")
    lead = {identity: lora[identity] - full[identity] for identity in lora}
    assert opened.inner_text() == max(lead, key=lead.__getitem__)
    assert page.locator("#list .value").first.inner_text() == f"+{max(lead.values()):.1f}"


def test_the_best_card_follows_the_direction_of_the_score(rich_study: Path, visits: Visits) -> None:
    page = visits.settled(rich_study)
    study = load(rich_study)
    first = study.documents[0].id

    def values(metric: str) -> list[float | None]:
        runs = [run.predictions for run in study.runs if "-s0-" in run.name]
        rows = [row for run in (*runs, study.outside["api"]) for row in run]
        return [row.scores[metric] for row in rows if row.id == first]

    best = page.locator("#content .card .score.best")
    page.locator("#metric").select_option(label="ROUGE-1")
    assert best.inner_text().split() == [f"{max(value or 0 for value in values('rouge1')):.1f}", "best"]
    page.locator("#metric").select_option(label="Repetition")
    lowest = min(value for value in values("repetition") if value is not None)
    assert best.first.inner_text().split() == [f"{lowest:.2f}", "best"]
    for neither in ("Length", "Novelty", "Empty"):  # no direction; no direction; nobody is ahead
        page.locator("#metric").select_option(label=neither)
        assert best.count() == 0


def test_seeds_and_marks(rich_study: Path, visits: Visits) -> None:
    page = visits.settled(rich_study)
    cards = page.locator("#content .card")
    assert cards.count() == 7  # the failed method wrote nothing
    assert "seed 0" in cards.nth(1).inner_text()
    page.locator("#seed").select_option("1")
    assert "seed 1" in cards.nth(1).inner_text()
    novel, shared = page.locator("#content mark.novel"), page.locator("#content mark.shared")
    assert "lora" in novel.all_inner_texts()
    references = " ".join(load(rich_study).documents[0].references).lower()
    words = [word.lower() for word in shared.all_inner_texts()]
    assert words
    assert all(word in references for word in words)
    page.locator("#mark").select_option("shared")
    assert (novel.count(), shared.count()) == (0, len(words))
    page.locator("#mark").select_option("")
    assert page.locator("#content mark").count() == 0
    assert not page.locator("#mark-key").is_visible()


def test_a_dot_opens_its_document_and_the_address_names_it(rich_study: Path, visits: Visits) -> None:
    visit = visits.open(rich_study)
    visit.scroll_through()
    page, study = visit.page, load(rich_study)

    def means(method: str) -> dict[str, float]:
        runs = [run.outputs.scores("rouge1") for run in study.runs if run.name.startswith(method)]
        return {key: sum(run[key] or 0.0 for run in runs) / len(runs) for key in runs[0]}

    full, lora = means("full-"), means("lora-")
    lead = {key: full[key] - lora[key] for key in full}
    ranked = sorted(lead, key=lambda key: -lead[key])
    more = sum(value > 0 for value in lead.values())
    expect(page.locator("#pair-words")).to_contain_text(f"Full fine-tuning has the higher score in {more} of 618")
    chart, opened = page.locator("#pair-chart"), page.locator("#content .about code")
    assert chart.get_attribute("aria-valuetext").startswith(f"{ranked[0]}: +{lead[ranked[0]]:.1f} (")
    chart.press("End")
    chart.press("Enter")
    assert opened.inner_text() == ranked[-1]
    assert page.url.endswith(f"#doc={ranked[-1]}")
    assert page.locator("#list .value").first.inner_text() == f"+{lead[ranked[0]]:.1f}"  # the list has the same order
    box = chart.bounding_box()
    chart.click(position={"x": 40, "y": box["height"] / 2})
    assert opened.inner_text() == ranked[0]
    page.goto(f"{(rich_study / 'report.html').as_uri()}#doc={ranked[300]}")
    assert opened.inner_text() == ranked[300]
    assert visit.complaints == []


def test_paper_is_light_and_has_all_charts_at_once(rich_study: Path, visits: Visits) -> None:
    page = visits.open(rich_study, scheme="dark").page
    # Before the page's own listener, which draws for the screen again.
    page.add_init_script(
        "addEventListener('afterprint', () => { window.printed = [...document.querySelectorAll('.chart')]"
        ".map((chart) => [chart.dataset.drawn, chart.querySelectorAll('svg').length > 0]); })"
    )
    page.reload()
    page.pdf()
    assert page.evaluate("window.printed") == [["light", True]] * 6
    expect(page.locator(".chart[data-drawn=dark]")).to_have_count(6)


FOLDED = "details[data-print]"


def with_folded_text(study: Path) -> Path:
    """Give a study what its page folds: a long verdict, diagnostics, notes and metrics without a column."""
    summary = read_summary(study)
    sentences = tuple(f"Sentence {number} of the verdict." for number in range(7))
    verdicts = tuple(one.model_copy(update={"sentences": sentences}) for one in summary.verdicts)
    finding = Finding(check="overfitting", where="lora", message="A finding of a diagnostic.")
    sizes = DataSizeVerdict(
        block=None, level=0.95, curves=(), crossovers=(), sentences=("On little data.",), notes=("A note on amounts.",)
    )
    change_summary(study, verdicts=verdicts, diagnostics=(finding,), data_sizes=(sizes,))
    draw_page(study)
    return study


def test_what_is_folded_on_the_screen_is_read_on_paper(fake_study: Callable[..., Path], visits: Visits) -> None:
    visit = visits.open(with_folded_text(fake_study(documents=3, methods=("zero_shot", "lora"), verdict=True)))
    page = visit.page
    places = (".words li", ".notes li", ".checks li", "[aria-labelledby=sizes] details li")
    texts = [page.locator(place).last for place in (*places, ".glossary dt")]
    kept = page.locator("#copy-bibtex")
    assert [text.is_visible() for text in texts] == [False] * 5
    page.emulate_media(media="print")  # without the event `beforeprint`: the style sheet alone
    assert page.locator(f"{FOLDED}[open]").count() == 0
    assert [text.is_visible() for text in texts] == [True] * 5
    assert not kept.is_visible()
    page.emulate_media(media="screen")
    assert [text.is_visible() for text in texts] == [False] * 5
    assert visit.complaints == []


def test_what_was_folded_is_folded_again_after_printing(fake_study: Callable[..., Path], visits: Visits) -> None:
    visit = visits.open(with_folded_text(fake_study(documents=3, methods=("zero_shot", "lora"), verdict=True)))
    page, folded = visit.page, visit.page.locator(FOLDED)
    page.locator(f"{FOLDED}.words summary").click()
    count = f"window.unfolded = document.querySelectorAll('{FOLDED}[open]').length"
    page.evaluate(f"addEventListener('beforeprint', () => {{ {count}; }})")  # after the page's own listener
    page.pdf()
    assert page.evaluate("window.unfolded") == folded.count() == 5
    assert page.locator(f"{FOLDED}[open]").count() == 1
    assert page.locator(f"{FOLDED}.words[open]").count() == 1


def test_the_verdict_on_scores_is_whole_on_paper(visits: Visits, tmp_path: Path) -> None:
    scores = {(name, 0): {f"i{at}": start + at % 7 for at in range(60)} for name, start in (("a", 10.0), ("b", 20.0))}
    found = summarize_scores(judge_scores(ScoreData(("a", "b"), {"quality": scores}), higher_is_better=True), "Scores")
    [verdict] = found.verdicts
    long = verdict.model_copy(update={"sentences": tuple(f"Sentence {number}." for number in range(9))})
    page = write_score_page(found.model_copy(update={"verdicts": (long,)}), tmp_path / "scores.html")
    visit = visits.open_file(page)
    last = visit.page.get_by_text("Sentence 8.")
    assert not last.is_visible()
    visit.page.emulate_media(media="print")
    assert last.is_visible()
    assert visit.complaints == []


def test_a_mean_over_a_part_of_the_documents_says_so(
    fake_study: Callable[..., Path], visits: Visits, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study(documents=40, methods=("zero_shot", "lora"))
    draw_page(study)
    words = visits.open(study).page.locator("#pair-words")
    expect(words).to_contain_text("of 40 documents")
    expect(words).to_contain_text("Mean difference +")
    monkeypatch.setattr(reader_data, "MOST_BYTES", 20_000)
    draw_page(study)
    words = visits.open(study).page.locator("#pair-words")
    shown = re.search(r"of (\d+) documents", words.inner_text())
    assert shown is not None
    assert 1 < int(shown[1]) < 40
    expect(words).to_contain_text(f"Mean difference over these {shown[1]} documents: +")


def test_hostile_text_is_shown_as_it_is(hostile_study: Path, visits: Visits) -> None:
    visit = visits.open(hostile_study)
    visit.scroll_through()
    page = visit.page
    for place in ("h1", ".alarm li span", "#content .source .text", "#content .card .text", "table.main bdi"):
        text = page.locator(place).first.inner_text()
        assert '</script><script>alert(1)</script><img src=x onerror="alert(2)">' in text, place
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+0007⟩⟨U+0000⟩" in text, place
    assert page.locator("main img, main script, main iframe").count() == 0
    # Tooltips are built by a library: they too must show and not act. All methods have one label here, so the number of
    # another one may lie on the bar; it has a tooltip too.
    page.locator("[data-figure=resource_bars] .mark-rect path").last.hover(force=True)
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert "<img src=x" in tip.inner_text()
    assert page.locator("#vg-tooltip-element img").count() == 0
    assert visit.complaints == []


def test_without_texts_the_rest_of_the_page_stands(textless_study: Path, visits: Visits) -> None:
    visit = visits.open(textless_study)
    assert visit.page.locator("#reader").count() == 0
    assert "--no-texts" in visit.page.locator("#documents").inner_text()
    assert visit.page.locator("table.main tbody tr").count() >= 5
    assert visit.complaints == []


def test_differences_are_drawn_without_texts(textless_study: Path, visits: Visits) -> None:
    visit = visits.open(textless_study)
    page, study = visit.page, load(textless_study)
    by_method = {run.record.spec.method.name: run.outputs.scores("rouge1") for run in study.runs}
    first, second = by_method["lora"], by_method["zero_shot"]
    lead = {key: (first[key] or 0.0) - (second[key] or 0.0) for key in first}
    best = max(lead, key=lambda key: lead[key])
    page.locator("#pair-first").select_option(label="LoRA")
    page.locator("#pair-second").select_option(label="Zero-shot")
    chart = page.locator("#pair-chart")
    assert page.locator("#pair-chart circle:not(.cursor)").count() == len(lead) == 4
    assert chart.get_attribute("aria-valuetext").startswith(f"{best}: +{lead[best]:.1f} (")
    assert "A dot opens no text" in page.locator("#differences").inner_text()
    chart.press("Enter")
    chart.click()
    assert page.url == (textless_study / "report.html").as_uri()
    assert visit.complaints == []


def test_the_rating_page_shows_hostile_texts_as_they_are(hostile_study: Path, visits: Visits) -> None:
    visit = visits.open(hostile_study)
    page = visit.page
    page.goto((hostile_study / "rating.html").as_uri())
    assert "in one sentence." in page.locator("#instruction").inner_text()
    for place in ("#document", "#references", "#left", "#right"):
        text = page.locator(place).inner_text()
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+0007⟩⟨U+0000⟩" in text, place
        assert "\u202e" not in text
    assert visit.complaints == []


def test_ratings_are_saved_by_the_button_and_judged(rich_study: Path, visits: Visits, tmp_path: Path) -> None:
    visit = visits.open(rich_study)
    page = visit.page
    page.goto((rich_study / "rating.html").as_uri())
    page.locator("[data-choice=left]").click()
    page.locator("#export").click()
    expect(page.locator("#saved")).to_have_text("1 rating saved as ratings.json")
    for choice in ("right", "same", "left", "right"):
        page.locator(f"[data-choice={choice}]").click()
    with page.expect_download() as saved:
        page.locator("#export").click()
    expect(page.locator("#saved")).to_have_text("5 ratings saved as ratings.json")
    file = tmp_path / saved.value.suggested_filename
    saved.value.save_as(file)
    assert visit.complaints == []
    shown = verdicts.judge_output([rich_study], "rouge1", None, [file], as_json=False)
    assert "5 ratings: " in shown


def test_the_page_of_a_running_study_says_what_cannot_be_read(browser: Any) -> None:
    views: list[StudyView | UserError] = [UserError("later: written by a later version of tuneoff"), StudyView("later")]

    def view(_asked: object) -> dict[str, Any]:
        found = views.pop(0) if len(views) > 1 else views[0]
        if isinstance(found, UserError):
            raise found
        return found.as_data()

    served = LocalPage(watch_page("later"), {"view": view}, 0)
    thread = threading.Thread(target=served.serve, daemon=True)
    thread.start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.address)
    expect(page.locator("#away")).to_have_text("later: written by a later version of tuneoff")
    expect(page.locator("#headline")).to_have_text("later: no study there yet")
    expect(page.locator("#away")).to_have_text("")
    context.close()
    served.close()
    thread.join()
