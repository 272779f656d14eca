"""Texts of strangers in every place of a report: no tag, script, handler or address of theirs gets into its pages."""

import itertools
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.report_study import FakeStudy, change_summary, draw
from tuneoff.report import figures
from tuneoff.report.pictures import Pictures

_ENDS = (
    *("", "</script>", "</SCRIPT\t>", "<!--", "-->", "]]>", '">', "'>", "</style>", "</title>", "</textarea>"),
    *("</noscript>", "</template>", "\u2028", "\\u003c/script\\u003e", "{{ 7*7 }}"),
)
_HARM = (
    *(
        "<script>x()</script>",
        "<img src=x onerror=x()>",
        "<svg/onload=x()>",
        '" onmouseover="x()',
        "' autofocus onfocus='x()",
    ),
    *(
        "<iframe srcdoc='<script>x()</script>'>",
        "<base href=//example.org>",
        "<link rel=stylesheet href=//example.org/a.css>",
    ),
    *("<meta http-equiv=refresh content='0;url=//example.org'>", "<style>@import '//example.org';</style>"),
    *(
        "<form action=//example.org><button>",
        "<object data=//example.org>",
        "<a href='javascript:x()'>y</a>",
        "javascript:x()",
    ),
)
PAYLOADS = [f"{end}{harm}" for end, harm in itertools.product(_ENDS, _HARM)]
_HARMLESS, _TOGETHER = "a text of nobody", len(_HARM) // 2


class Markup(HTMLParser):
    """What a browser would act on: tags with their attributes, except words and the content of data blocks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scripts = 0
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.addresses: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name in ("style", "srcdoc")]
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src", "action", "data", "content")}


def pages(folder: Path, text: str) -> Iterator[tuple[str, Markup]]:
    """The pages of a study in which every free text is `text`."""
    study = FakeStudy(folder).write(
        documents=2,
        failed=("full",),
        hostile=text,
        outside={"api": text},
        instruction=text.replace("{", "{{").replace("}", "}}"),
    )
    change_summary(study, name=text)
    draw(study)
    for name in ("report.html", "rating.html"):
        yield name, Markup(study / name)


def test_no_markup_of_a_stranger_gets_into_a_page(full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not full:
        pytest.skip("one of the trials of `make faults`")
    assert len(PAYLOADS) >= 200
    monkeypatch.setattr(figures, "save_charts", lambda *_arguments: Pictures((), None))
    expected = dict(pages(tmp_path / "harmless", _HARMLESS))
    # Some at a time, with the same beginning: a page takes a second.
    groups = [" ".join(PAYLOADS[start : start + _TOGETHER]) for start in range(0, len(PAYLOADS), _TOGETHER)]
    for number, payload in enumerate(groups):
        for name, found in pages(tmp_path / f"{number}", payload):
            harmless, where = expected[name], f"{name}, {payload}"
            assert found.tags == harmless.tags, where
            assert found.scripts == harmless.scripts, where
            assert not found.handlers, where
            assert not [each for each in found.addresses if "//" in each or "script:" in each], where
            assert "x()" not in "".join(found.addresses - harmless.addresses), where
        print(f"{number + 1} of {len(groups)} groups", flush=True)
