"""Text for LaTeX: it is printed as it is, and does nothing."""

import re

import pytest

from support.report_study import HOSTILE
from tuneoff.report.latex import escape_latex


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\input{/etc/passwd} & $x_1^2$ #1 100% ~", None),
        ('`ls` "quoted" <b> a|b', None),
        ("--methods a--b", None),
        ("−0.6 to +1.9 – (IA)³", r"$-$0.6 to +1.9 -- (IA)\textsuperscript{3}"),
        ("two\nlines\x07", "two lines?"),
        ("[1ex] new", "{[}1ex{]} new"),
        (HOSTILE, None),
    ],
)
def test_no_character_acts(text: str, expected: str | None) -> None:
    escaped = escape_latex(text)
    if expected is not None:
        assert escaped == expected
    commands = re.findall(r"\\[a-zA-Z]+|\\.", escaped)
    allowed = {f"\\text{name}" for name in ("backslash", "asciicircum", "asciitilde", "less", "greater", "bar")}
    allowed |= {
        "\\allowbreak",
        "\\textasciigrave",
        "\\textsuperscript",
        "\\ldots",
        *(f"\\{sign}" for sign in "{}$&#%_"),
    }
    assert set(commands) <= allowed
    rest = re.sub(r"\\[a-zA-Z]+(?:\\allowbreak)?\{[^{}]*\}|\\.|\$-\$", "", escaped)
    assert not set(rest) & set('\\$&#%_^~|<>`"')
    assert "--" not in rest or "–" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---lora", "-{}-{}-lora"),
        ("-–-", "-{}--{}-"),
        ("a,,b", "a,{},b"),
        ("it''s", "it'{}'s"),
        ("‘“x”’", "`{}``x''{}'"),
        ("?“no”", "?{}``no''"),
        ("a\N{ZERO WIDTH SPACE}b\N{WORD JOINER}c", r"a\hspace{0pt}bc"),
        ("e\N{COMBINING ACUTE ACCENT} a\N{VARIATION SELECTOR-16}b", "\u00e9 ab"),
    ],
)
def test_ligatures_are_not_formed_and_invisible_characters_stop_no_compiler(text: str, expected: str) -> None:
    """pdflatex of TeX Live 2022 joins `---`, `,,` and `''`, and stops at U+200B, U+FE0F and accents of their own."""
    assert escape_latex(text) == expected
