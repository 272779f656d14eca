"""Code of cards in a process of its own."""

from pathlib import Path

import pytest

from tuneoff.engine.thread_waiting import WAITING
from tuneoff.export.card_runner import CardFailed, texts_of_card

WRITES = (
    "print('loading')\ndef write(document, **fields):\n    print('noise')\n    return document.upper() + str(fields)\n"
)


def test_texts_come_in_order_and_what_libraries_print_is_no_answer() -> None:
    documents = [("a\u2028b", {}), ("c", {"aspect": "x"})]
    assert list(texts_of_card(WRITES, documents)) == ["A\u2028B{}", "C{'aspect': 'x'}"]


def test_threads_wait_as_those_of_runs_unless_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    [(name, value)] = WAITING.items()
    code = f"import os\ndef write(document):\n    return os.environ[{name!r}]\n"
    monkeypatch.delenv(name, raising=False)
    assert list(texts_of_card(code, [("a", {})])) == [value]
    monkeypatch.setenv(name, "mine")
    assert list(texts_of_card(code, [("a", {})])) == ["mine"]


def test_packages_are_those_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install --user`, or with packages on PYTHONPATH."""
    (tmp_path / "of_the_user.py").write_text("VALUE = 'found'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(texts_of_card("import of_the_user\ndef write(d): return of_the_user.VALUE", [("a", {})])) == ["found"]


def test_tuneoff_cannot_be_imported() -> None:
    code = "def write(document):\n    import tuneoff.text\n    return 'imported'\n"
    with pytest.raises(CardFailed, match="ModuleNotFoundError"):
        list(texts_of_card(code, [("a", {})]))


@pytest.mark.parametrize("code", ["raise OSError('no such model')", "def write(d): raise OSError('no such model')"])
def test_a_failure_is_its_last_line(code: str) -> None:
    with pytest.raises(CardFailed, match="OSError: no such model"):
        list(texts_of_card(code, [("a" * 100_000, {})]))
