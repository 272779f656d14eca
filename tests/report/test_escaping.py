"""Untrusted text cannot leave its place in a page."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from tuneoff.report.escaping import embedded_json, escape_all_controls, escape_controls


@given(st.text(st.characters(codec=None, categories=None)))
def test_embedded_json_cannot_leave_its_block(text: str) -> None:
    block = embedded_json({"text": text, text: [1, None]})
    assert not set(block) & set("<>&\u2028\u2029")
    block.encode("utf-8")
    assert json.loads(block) == {"text": text, text: [1, None]}


@given(st.text(st.characters(codec=None, categories=None)))
def test_escaped_text_is_printable_and_loses_nothing_printable(text: str) -> None:
    shown = escape_controls(text)
    shown.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert escape_controls(shown) == shown
    if text.isprintable():
        assert shown == text
    assert escape_all_controls({text: [text, 1.5, None]}) == {shown: [shown, 1.5, None]}
