"""Nothing that a stranger wrote acts on a terminal, and only one module of the command line writes to it."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tuneoff
from tuneoff.cli import guard, output
from tuneoff.cli.documents import NewDocuments
from tuneoff.cli.new_texts import report_texts
from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.run import NewText
from tuneoff.text import escape_json, sanitize

PACKAGE = Path(tuneoff.__file__).parent
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp\u2066.exe \r\x08\x7f\u2028"
TEXTS = st.text(st.characters(), max_size=30)


@given(TEXTS)
def test_json_means_the_same_without_control_codes(text: str) -> None:
    value = {text: [text, 1.5]}
    escaped = escape_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(escaped) == value
    assert not ACTING.search(escaped)


@given(TEXTS)
def test_text_keeps_its_length_and_all_that_does_not_act(text: str) -> None:
    shown = sanitize(text, keep="\n\t")
    assert len(shown) == len(text)
    assert not ACTING.search(shown)
    assert all(new in (old, "?") for old, new in zip(text, shown, strict=True))


def test_words_of_all_languages_stay() -> None:
    """Persian needs joiners, French a narrow space, emoji a joiner and a selector."""
    persian, french, emoji = "\u0645\u06cc\u200c\u062e", "\xab\u202fmot\xa0\xbb", "\U0001f469\u200d\U0001f52c\ufe0f"
    words = f"{persian} {french} {emoji} \u5168\u3000\u89d2 co\xadop"
    assert sanitize(words) == words


def test_every_way_out_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(HOSTILE + "\n\tb")
    output.show_json(json.dumps(HOSTILE, ensure_ascii=False))
    output.say(HOSTILE)
    output.show_traceback(ValueError, ValueError(HOSTILE), None)

    def fail() -> int:
        raise UserError(HOSTILE)

    assert guard(fail) == 2
    out, err = capsys.readouterr()
    assert not ACTING.search(out + err)
    assert out.splitlines()[1] == "\tb"
    assert json.loads(out.splitlines()[2]) == HOSTILE


@pytest.mark.parametrize("as_json", [False, True])
def test_generated_texts(as_json: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = Example("d", "a", (), "")
    for path in (None, tmp_path / "texts.txt"):
        report_texts(iter([NewText("d", HOSTILE)]), NewDocuments((document,)), path, as_json=as_json)
    out, err = capsys.readouterr()
    assert not ACTING.search(out + err)
    assert "red" in out
    exact = (tmp_path / "texts.txt").read_text("utf-8").removesuffix("\n")
    assert (json.loads(exact)["text"] if as_json else exact) == (HOSTILE if as_json else " ".join(HOSTILE.split()))
    if as_json:
        assert json.loads(out)["text"] == HOSTILE


def writes(source: str) -> list[int]:
    """Lines that write to stdout or stderr."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "sys.stdout.write", "sys.stderr.write", "typer.echo", "rich.print"):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_only_one_module_of_the_command_line_writes(path: Path) -> None:
    assert path.name == "output.py" or writes(path.read_text("utf-8")) == []
    assert writes("print(1)\nsys.stderr.write(2)") == [1, 2]


def test_an_unexpected_error_is_shown_by_the_same_module(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneoff.cli import silence_libraries

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    with monkeypatch.context() as patch:
        patch.setattr("logging.disable", lambda level: None)
        patch.setattr("warnings.simplefilter", lambda action: None)
        silence_libraries()
    assert sys.excepthook is output.show_traceback


def test_what_a_signal_raises_in_a_destructor_is_not_shown() -> None:
    code = """
from tuneoff.cli import silence_libraries
silence_libraries()
class Lost:
    def __init__(self, error):
        self.error = error
    def __del__(self):
        raise self.error
for error in (KeyboardInterrupt(), SystemExit(129), ValueError("shown")):
    Lost(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "shown" in done.stderr
    assert done.stderr.count("Traceback") == 1
