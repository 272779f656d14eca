"""What `tuneoff summarize` writes where: texts to stdout or a file, what is cut or left out to stderr."""

import json
from pathlib import Path

import pytest

from tuneoff.cli.documents import LeftOut, NewDocuments, read_documents
from tuneoff.cli.new_texts import check_long, check_output, report_texts
from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.run import NewText
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec


def example(name: str) -> Example:
    return Example(name, "document", (), "")


FOUND = NewDocuments((example("a"), LeftOut("rows.csv:2: \x1b[31mbad"), example("b"), example("c")))
TEXTS = (NewText("a", "one\ntwo", 5, 5), NewText("b", None), NewText("c", "three", 5, 1200))


def test_line_n_belongs_to_document_n(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_texts(iter(TEXTS), FOUND, None, as_json=False) == 3
    captured = capsys.readouterr()
    assert captured.out == "one two\n\n\nthree\n"
    assert "rows.csv:2" in captured.err
    assert "\x1b" not in captured.err
    assert "document b: its fields leave no room" in captured.err
    assert "document c: only the first 5 of 1,200 tokens were read" in captured.err
    assert "document a" not in captured.err


def test_a_document_that_was_read_in_parts_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    texts = iter([NewText("a", "one", 900, 900, parts=3)])
    assert report_texts(texts, NewDocuments((example("a"),)), None, as_json=False) == 0
    assert capsys.readouterr().err == "tuneoff: document a: read in 3 parts; its text is made of their texts\n"


def test_the_rule_for_long_documents_is_one_of_two() -> None:
    assert [check_long(rule) for rule in ("cut", "map-reduce", "map_reduce")] == ["cut", "map-reduce", "map-reduce"]
    with pytest.raises(UserError, match="--long refine: use cut or map-reduce"):
        check_long("refine")


def test_json_lines_hold_ids(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_texts(iter(TEXTS), FOUND, None, as_json=True) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"id": "a", "text": "one\ntwo"}, {"id": "c", "text": "three"}]


def test_nothing_left_out_is_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_texts(iter(TEXTS[:1]), NewDocuments((example("a"),)), None, as_json=False) == 0
    assert capsys.readouterr().err == ""


def test_a_file_is_written_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, content in (("out.txt", "one two\n"), ("out.jsonl", '{"id": "a", "text": "one\\ntwo"}\n')):
        file = folder / name
        check_output(file, ["-"])
        report_texts(iter(TEXTS[:1]), NewDocuments((example("a"),)), file, as_json=False)
        assert file.read_text() == content
        assert capsys.readouterr().out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["out.jsonl", "out.txt"]


@pytest.mark.parametrize("source", ["papers", "papers/*"])
def test_a_command_that_is_repeated_knows_its_earlier_output(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").mkdir()
    output = Path("papers", "all.jsonl")
    for name in ("a", "b"):
        Path("papers", f"{name}.txt").write_text(name)
    spec = RunSpec(
        model=ModelSpec(), prompt=PromptSpec(), data=DataSpec(source="starter"), method=MethodSpec(name="lora")
    )
    for time in ("first", "second"):
        check_output(output, [source])
        found = read_documents([source], spec, {}, output=output)
        assert [one.document for one in found.documents] == ["a", "b"]
        texts = iter([NewText(one.id, f"{time}\u2028 of {one.id}", 5, 5) for one in found.documents])
        assert report_texts(texts, found, output, as_json=False) == 0
        assert output.read_text(encoding="utf-8").count(time) == 2
        left_out = (
            f"{output}: left out of the documents, because an earlier command wrote it" in capsys.readouterr().err
        )
        assert left_out == (time == "second")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "a.txt"
    document.write_text("a")
    for output, words in ((tmp_path, "a folder"), (tmp_path / "no" / "x", "no folder"), (document, "would replace")):
        with pytest.raises(UserError, match=words):
            check_output(output, [str(document)])
