"""Texts of a command that was killed are used by the next one, for the documents that they belong to."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from support.stored_study import stored_study
from tuneoff.cli import main
from tuneoff.cli.unfinished_texts import SUFFIX, UnfinishedTexts
from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.run import NewText

DOCUMENTS = [Example(f"d{index}", f"text {index}", (), "") for index in range(7)]


def new(document: Example) -> NewText:
    return NewText(document.id, f"of {document.document}\n\u2028", 3, 3)


def begun(output: Path, count: int, identity: str = "run") -> None:
    """What a command leaves that was killed after `count` texts."""
    texts = UnfinishedTexts(output, identity, DOCUMENTS, 2).continued(map(new, DOCUMENTS))
    for _ in range(count):
        next(texts)


@pytest.mark.parametrize(("written", "kept"), [(0, 0), (1, 0), (5, 4), (7, 7)])
def test_whole_batches_are_kept(written: int, kept: int, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begun(output, written)
    again = UnfinishedTexts(output, "run", DOCUMENTS, 2)
    assert len(again) == kept
    assert list(again.continued(map(new, DOCUMENTS[kept:]))) == [new(document) for document in DOCUMENTS]
    again = UnfinishedTexts(output, "run", DOCUMENTS, 2)
    assert len(again) == 7
    again.remove()
    assert list(tmp_path.glob("out*")) == []


def test_half_a_line_and_a_changed_document_are_not_used(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begun(output, 6)
    part = tmp_path / f"out.jsonl{SUFFIX}"
    part.write_bytes(part.read_bytes()[:-3])
    assert len(UnfinishedTexts(output, "run", DOCUMENTS, 2)) == 4
    changed = [*DOCUMENTS[:3], Example("d3", "another text", (), ""), *DOCUMENTS[4:]]
    assert len(UnfinishedTexts(output, "run", changed, 2)) == 2


def test_texts_of_another_run_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    begun(output, 4)
    with pytest.raises(UserError, match=re.escape(f"out.jsonl{SUFFIX}: unfinished texts of another run")):
        UnfinishedTexts(output, "other", DOCUMENTS, 2)
    assert len(UnfinishedTexts(output, "run", DOCUMENTS, 2)) == 4


def test_a_killed_command_goes_on_and_writes_what_an_undisturbed_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored_study(tmp_path, monkeypatch)
    rows = [{"id": f"n{index}", "document": f"We show result {index}. " * (1 + index % 5)} for index in range(40)]
    Path("new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["summarize", "study", "new.jsonl", "--method", "lora", "--output"]
    assert main([*command, "whole.jsonl"]) == 0
    pid = os.fork()
    if pid == 0:  # this process is killed as its 36th text comes
        continued = UnfinishedTexts.continued

        def killed(self, texts):
            for number, text in enumerate(continued(self, texts)):
                if number == 36:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield text

        UnfinishedTexts.continued = killed  # type: ignore[method-assign]
        main([*command, "out.jsonl"])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not Path("out.jsonl").exists()
    capsys.readouterr()
    assert main([*command, "out.jsonl"]) == 0
    assert f"32 of 40 texts are there already, in out.jsonl{SUFFIX}" in capsys.readouterr().err
    assert Path("out.jsonl").read_text() == Path("whole.jsonl").read_text()
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text().splitlines()] == [r["id"] for r in rows]
    assert not Path(f"out.jsonl{SUFFIX}").exists()
