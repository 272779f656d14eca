"""The page of `tuneoff try` in a real browser, with answers of the test."""

import os
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tuneoff.errors import UserError
from tuneoff.local_page import LocalPage
from tuneoff.report.try_page import try_page

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"></p><script>document.title='hacked'</script> \u202eevil"


def answer(question):
    if question["method"] == "full":
        raise UserError("memory <b>ran out</b>")
    return {"text": f"{HOSTILE} of {question['document']} {question['fields']}", "seconds": 1.25, "note": "cut"}


def test_names_are_escaped() -> None:
    page = try_page(HOSTILE, {"lora": HOSTILE}, [HOSTILE])
    assert "<img" not in page
    assert page.count("<script") == 2
    assert "connect-src &#39;self&#39;" in page


@pytest.mark.browser
@pytest.mark.xdist_group("drawn studies")
def test_texts_of_all_methods_appear_side_by_side_and_run_nothing() -> None:
    if not CHROMIUM.exists():
        message = "Debian's chromium is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    methods = {"zero_shot": "Zero-shot", "lora": "LoRA", "full": "Full fine-tuning"}
    page = LocalPage(try_page("starter", methods, ["aspect"]), {"write": answer})
    thread = threading.Thread(target=page.serve, daemon=True)
    thread.start()
    complaints: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
            tab = browser.new_page(viewport={"width": 1360, "height": 850})
            tab.set_default_timeout(60_000)
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.goto(page.address)
            tab.get_by_label("Document").fill("We show <b>results</b>.")
            tab.get_by_label("aspect").fill("outcome")
            tab.get_by_role("button", name="Write").click()
            expect(tab.get_by_role("status")).to_have_text("Done", timeout=60_000)
            texts = tab.locator("#texts section")
            expect(texts).to_have_count(3)
            expect(texts.nth(1)).to_contain_text("LoRA")
            expect(texts.nth(1)).to_contain_text("1.3 s")
            expect(texts.nth(1)).to_contain_text("of We show <b>results</b>. {'aspect': 'outcome'}")
            expect(texts.nth(1)).to_contain_text("⟨U+202E⟩evil")
            expect(texts.nth(2)).to_contain_text("memory <b>ran out</b>")
            assert tab.title() == "Try · starter"
            assert tab.locator("#texts img, #texts script, #texts b").count() == 0
            if folder := os.environ.get("TUNEOFF_SCREENSHOTS"):
                tab.screenshot(path=f"{folder}/try.png", full_page=True)
            browser.close()
    finally:
        page.close()
        thread.join()
    assert complaints == []
