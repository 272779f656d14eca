"""New documents for `tuneoff summarize`."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tuneoff.cli.documents import LeftOut, given_fields, read_documents
from tuneoff.data import ColumnsTaken, Example
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec


def spec_of(column: str | None = None, instruction: str = "Sum it up.") -> RunSpec:
    return RunSpec(
        model=ModelSpec(),
        prompt=PromptSpec(instruction=instruction),
        data=DataSpec(source="starter", document_column=column),
        method=MethodSpec(name="lora"),
    )


def texts_of(source: str, column: str | None = None) -> dict[str, str]:
    found = read_documents([source], spec_of(column), {})
    assert not found.left_out
    return {example.id: example.document for example in found.documents}


def test_a_column_that_is_named_is_the_only_one_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mails.csv"
    file.write_text("text,body\nnot this,A mail.\nnor this,\n")
    spec = spec_of("text", instruction="Sum up {text}.")
    found = read_documents([str(file)], spec, {}, column="body")
    assert [(example.document, example.fields["text"]) for example in found.documents] == [("A mail.", "not this")]
    assert [row.reason for row in found.left_out] == [f"{file}:3: no text in body"]


def fault_of(source: str) -> str:
    """The sentence about the one thing that is wrong with a source."""
    try:
        [left_out] = read_documents([source], spec_of(), {}).left_out
    except UserError as error:
        return str(error)
    return left_out.reason


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    """`stdin(content)`: bytes on standard input, under a locale that is not UTF-8."""
    return lambda content: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="cp1252"))


def test_a_text_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "paper.txt"
    file.write_text("\ufeffFirst line.\n\nSecond {line}.\n", encoding="utf-8")
    assert texts_of(str(file)) == {"1": "First line.\n\nSecond {line}."}


@pytest.mark.parametrize("text", ["{\\bf Abstract} We show.", "{\n a set }", "[1] Smith et al.", "[[[", "{", "5"])
def test_brackets_alone_make_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "paper.txt").write_text(text)
    assert texts_of(str(tmp_path / "paper.txt")) == {"1": text}


@pytest.mark.parametrize("name", ["papers.txt", "papers.jsonl", "papers.JSON"])
def test_json_lines_hold_one_document_a_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text('\ufeff{"id": 7, "text": "a"}\n\n{"Article": "b ", "title": "t"}\r\n', encoding="utf-8")
    assert texts_of(str(file)) == {"7": "a", "3": "b"}


@pytest.mark.parametrize("name", ["papers.txt", "papers.jsonl"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"text": "a\u2028b\u0085c"}\n{"text": "e"}', encoding="utf-8")
    assert texts_of(str(tmp_path / name)) == {"1": "a\u2028b\u0085c", "2": "e"}


def test_tables_are_read_as_for_training(tmp_path: Path) -> None:
    rows = {"id": ["x", "y"], "document": ["a,b", "c"]}
    parquet.write_table(pa.table(rows), tmp_path / "new.parquet")
    (tmp_path / "new.csv").write_text('id,document\nx,"a,b"\ny,c\n')
    (tmp_path / "new.tsv").write_text("ID\tDocument\nx\ta,b\ny\tc\n")
    for name in ("new.parquet", "new.csv", "new.tsv"):
        assert texts_of(str(tmp_path / name)) == {"x": "a,b", "y": "c"}


def test_standard_input_is_utf8_with_or_without_a_mark(stdin) -> None:
    stdin("Ein Tëxt − kurz.\n".encode())
    assert texts_of("-") == {"1": "Ein Tëxt − kurz."}
    stdin('\ufeff{"text": "ä"}\n{"text": "b"}\n'.encode())
    assert texts_of("-") == {"1": "ä", "2": "b"}


def test_json_over_several_lines_is_read(stdin) -> None:
    for content in (b'[{"text": "a"}]', b'[\n {"text": "a"}\n]', b'{\n "text": "a"\n}', b'[\n "a"\n]'):
        stdin(content)
        assert texts_of("-") == {"1": "a"}
    stdin(b'[\n {"text": "a"},\n 5\n]')
    assert fault_of("-") == (
        "standard input, row 2: a JSON int, but an object was expected; correct the row or remove it"
    )


def test_a_broken_first_line_makes_no_text_of_json_lines(stdin) -> None:
    stdin(b'{"document": "a b c"\n{"document": "d e f"}\n')
    with pytest.raises(UserError, match="standard input:1: not a JSON object on one line, but later lines are"):
        texts_of("-")


def test_the_column_of_the_runs_own_data_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "new.jsonl"
    file.write_text('{"document": "a", "body": "b"}\n{"document": "c"}\n')
    assert texts_of(str(file), "body") == {"1": "b", "2": "c"}
    assert texts_of(str(file)) == {"1": "a", "2": "c"}


DEEP = b'{"text": "a", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
LONG = b'{"text": "a", "n": ' + b"9" * 5000 + b"}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xff\x00\xfea", "UTF|NUL"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "UTF-8"),
        (b'{"text": "a"}\nplain\n', "(line |:)2: not "),
        (b'{"text": "a"}\n[1]\n', "(line |:)2: .*object"),
        (b'{"title": "a"}\n', ":1: no text in document"),
        (b'{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}\n', ":2: the id 'x' appears twice"),
        (b'{"text": "a"}\n' + LONG, "(line |:)2: JSON that cannot be read"),
        (LONG, "(line |:)1: JSON that cannot be read"),
        (DEEP, "(line |:)1: JSON that cannot be read"),
        (b'{"text": "a"}\n{"text": "\\ud800"}\n', ":2: not text"),
        (b'{"text": "a", "field": "\\ud800"}\n', ":1: not text"),
        (b'{"text": "a", "id": "\\ud800"}\n', ":1: not text"),
    ],
)
@pytest.mark.parametrize("name", ["new.jsonl", "new"])
def test_what_cannot_be_used_names_the_line(tmp_path: Path, content: bytes, words: str, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    fault = fault_of(str(file))
    assert re.search(words, fault)
    assert str(file) in fault


def test_json_lines_by_name_are_never_a_text(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text("{\\bf Abstract}")
    with pytest.raises(UserError, match=r"new\.jsonl:1: not JSON"):
        texts_of(str(tmp_path / "new.jsonl"))


def test_missing_file() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        texts_of("nowhere.txt")
    with pytest.raises(UserError, match="there is no such file"):
        texts_of("nowhere.jsonl")


def test_other_columns_are_fields_and_those_given_go_before_them(tmp_path: Path) -> None:
    file = tmp_path / "new.jsonl"
    rows = [{"document": "a", "aspect": "goal", "year": 1999}, {"document": "b"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = spec_of(instruction="Say the {aspect}.")
    [one, other] = read_documents([str(file)], spec, {}).entries
    assert isinstance(one, Example)
    assert isinstance(other, LeftOut)
    assert re.search(r":2: .*\{aspect\}.*--field aspect=VALUE, or a column aspect", other.reason)
    given = [example.fields for example in read_documents([str(file)], spec, {"aspect": "method"}).documents]
    assert given == [{"aspect": "method", "year": "1999"}, {"aspect": "method"}]
    file.write_text(json.dumps(rows[0]))
    assert read_documents([str(file)], spec, {}).documents[0].fields == {"aspect": "goal", "year": "1999"}


def test_one_bad_row_costs_that_row_alone(tmp_path: Path) -> None:
    contents = {
        "a.jsonl": '{"text": "a"}\n{"text": \n{"text": "c"}\n',
        "b.csv": "text,n\na,1\nb,2,3\nc,3\n",
        "c.jsonl": '{"text": "a"}\n{"title": "b"}\n{"text": "c"}\n',
        "d": '[{"text": "a"},\n{"text": null},\n{"text": "c"}]',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        found = read_documents([str(tmp_path / name)], spec_of(), {})
        assert [example.document for example in found.documents] == ["a", "c"]
        assert [isinstance(entry, LeftOut) for entry in found.entries] == [False, True, False]
        assert name in found.left_out[0].reason


def test_a_file_without_one_good_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "a"}\n{"title": "b"}\n{"title": "c"}\n')
    way_out = r"a\.jsonl:1: no text in .*; its columns are title: name one with --document-column \(and 2 more\)"
    with pytest.raises(UserError, match=way_out):
        texts_of(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("source", ["{folder}", "{folder}/*"])
def test_what_the_command_itself_wrote_there_is_no_document(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "b.txt").write_text("A paper.")
    output = folder / "all.jsonl"
    for name in ("all.jsonl", "all.jsonl.part"):
        (folder / name).write_text(json.dumps({"id": f"{folder}/b.txt", "text": "Its summary."}) + "\n")
    found = read_documents([source.format(folder=folder)], spec_of(), {}, output=output)
    assert [example.document for example in found.documents] == ["A paper."]
    assert found.left_out == ()
    assert found.cautions == (
        f"{output}: left out of the documents, because an earlier command wrote it; the texts replace it",
    )


@pytest.mark.parametrize("source", ["{folder}", "{folder}/*"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "A paper."),
        ("a.txt", "One line.\n"),
        ("a.jsonl", '{"id": "7", "text": "A paper."}\n'),
        ("a.jsonl", '{"id": 1, "text": "A paper."}\n'),
        ("a.jsonl", '{"id": "{folder}/b.txt", "text": "A paper.", "year": 1999}\n'),
        ("a.jsonl", '{"id": "{folder}/b.txt", "text": "A paper."}\n{"text": "Another."}\n'),
        ("a.jsonl", '["A paper."]'),
        ("a.txt", b"caf\xe9"),
    ],
)
def test_a_document_is_not_replaced_by_the_texts(source: str, name: str, content: str | bytes, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "b.txt").write_text("B paper.")
    written = content.replace("{folder}", str(folder)).encode() if isinstance(content, str) else content
    (folder / name).write_bytes(written)
    said = (
        f"--output {folder / name}: is among the documents, and nothing shows that an earlier command wrote it; name "
    )
    with pytest.raises(UserError, match=re.escape(said)):
        read_documents([source.format(folder=folder)], spec_of(), {}, output=folder / name)
    (folder / name).write_bytes(b"")  # holds nothing
    found = read_documents([source.format(folder=folder)], spec_of(), {}, output=folder / name)
    assert [example.document for example in found.documents] == ["B paper."]


def test_a_file_beside_the_documents_needs_no_proof(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "b.txt").write_text("B paper.")
    (tmp_path / "all.txt").write_text("anything")
    for output in (tmp_path / "all.txt", folder / "new.txt"):
        found = read_documents([str(folder)], spec_of(), {}, output=output)
        assert (len(found.documents), found.cautions) == (1, ())


def test_several_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("b")
    (folder / "a.md").write_text("a")
    (folder / "deep" / "c").write_text("c")
    (folder / ".hidden").write_text("x")
    (folder / "empty.txt").write_text(" ")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "x", "text": "d"}\n{"text": "e"}\n')
    found = read_documents([str(folder), str(rows), str(rows)], spec_of(), {})
    assert {example.id: example.document for example in found.documents} == {
        f"{folder}/a.md": "a",
        f"{folder}/b.txt": "b",
        f"{folder}/deep/c": "c",
        "x": "d",
        f"{rows}:2": "e",
    }
    reasons = [entry.reason for entry in found.left_out]
    assert "empty.txt: empty" in reasons[0]
    assert "the id 'x' appears twice" in reasons[1]
    assert f"the id '{rows}:2' appears twice" in reasons[2]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%PDF-1.4\n1 0 obj\n", "a PDF; extract its text first"),
        (b"PK\x03\x04" + bytes(22) + b"\x11\0\0\0word/document.xml", "a Word document; save it as plain text first"),
        (b"\n<!DOCTYPE html>\n<html>", "HTML source, .* extract the text first"),
        (b"\xef\xbb\xbf<HTML lang=en>", "HTML source, .* extract the text first"),
        (b"{\\rtf1 text}", "a rich text file; save it as plain text first"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer, not the file itself"),
    ],
)
def test_source_of_another_format_is_no_text(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "new").write_bytes(content)
    with pytest.raises(UserError, match=rf"new: {kind}"):
        texts_of(str(tmp_path / "new"))
    (tmp_path / "text.txt").write_text("a")
    found = read_documents([str(tmp_path)], spec_of(), {})
    assert [example.document for example in found.documents] == ["a"]
    assert re.search(kind, found.left_out[0].reason)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"text": "caf\xc3\xa9"}\n', mtime=0)),
        ("a.txt.gz", gzip.compress("caf\u00e9".encode(), mtime=0)),
        ("a.json", b'[{"text": "caf\xc3\xa9"}]'),
        ("a.json", b'["caf\xc3\xa9"]'),
        ("a.json", b'{"data": [{"text": "caf\xc3\xa9"}]}'),
        ("a", b'{"messages": [{"role": "user", "content": "caf\xc3\xa9"}]}\n'),
        ("a.csv", "n;text\n1;caf\u00e9\n".encode("utf-16")),
        ("a.txt", "caf\u00e9".encode("utf-16")),
        ("a.jsonl", b'{"text": ["caf\xc3\xa9", " "]}\n'),
    ],
)
def test_every_form_that_training_reads(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert list(texts_of(str(tmp_path / name)).values()) == ["caf\u00e9"]


def test_an_encoding_that_is_guessed_is_said_and_can_be_named(tmp_path: Path) -> None:
    text = "The caf\u00e9 is in the old town of K\u00f6ln."
    for name, content in (("a.txt", text), ("a.csv", f"text\n{text}\n")):
        file = tmp_path / name
        file.write_bytes(content.encode("cp1252"))
        found = read_documents([str(file)], spec_of(), {})
        assert [example.document for example in found.documents] == [text]
        assert "was read as Windows-1252" in found.cautions[0]
        named = read_documents([str(file)], spec_of(), {}, encoding="cp850")
        assert named.documents[0].document != text
        assert named.cautions == ()


def test_patterns_and_zip_archives_are_the_files_in_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.txt", "a")
        archive.writestr("b.jsonl", '{"text": "b"}\n{"text": \n')
        archive.writestr("c.pdf", "%PDF-1.4")
    found = read_documents([str(tmp_path / "all.zip")], spec_of(), {})
    assert [example.document for example in found.documents] == ["a", "b"]
    assert [reason.reason.split("all.zip/")[1][:8] for reason in found.left_out] == ["b.jsonl:", "c.pdf: a"]
    for name in ("x1.txt", "x2.txt"):
        (tmp_path / name).write_text(name)
    found = read_documents([str(tmp_path / "x*.txt")], spec_of(), {})
    assert [example.document for example in found.documents] == ["x1.txt", "x2.txt"]
    with pytest.raises(UserError, match="no file matches this pattern"):
        texts_of(str(tmp_path / "y*.txt"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("content", [b"a text", b'{"text": "a text"}\n'])
def test_a_pipe_is_read_once(tmp_path: Path, content: bytes) -> None:
    """As the shell gives with `<(...)`."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,), daemon=True)
    writer.start()
    assert texts_of(str(tmp_path / "pipe")) == {"1": "a text"}


def test_a_workbook_under_another_name_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<?xml")
    with pytest.raises(UserError, match=r"a\.docx: an Excel workbook by its content; rename it"):
        texts_of(str(tmp_path / "a.docx"))


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.mkdir("folder")
        archive.writestr("__MACOSX/a.txt", "a")
    with pytest.raises(UserError, match="a zip archive without files"):
        texts_of(str(tmp_path / "none.zip"))


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder without files"):
        texts_of(str(tmp_path))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError, match=r"empty\.txt: empty"):
        texts_of(str(tmp_path))


def test_a_file_that_is_missing_is_reported_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match="missing"):
        read_documents([str(tmp_path / "a.txt"), str(tmp_path / "missing.txt")], spec_of(), {})


def test_fields() -> None:
    assert given_fields(["aspect=the approach", "tone=a=b", "empty="]) == {
        "aspect": "the approach",
        "tone": "a=b",
        "empty": "",
    }
    with pytest.raises(UserError, match="should have the form NAME=VALUE"):
        given_fields(["aspect"])


def test_reading_documents_loads_no_torch() -> None:
    """A mistake in them is told at once."""
    code = "import sys, tuneoff.cli.documents; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def documents_as_trained(file: Path, taken: ColumnsTaken | None) -> list[str]:
    return [example.document for example in read_documents([str(file)], spec_of(), {}, taken=taken).documents]


def test_a_row_is_read_from_the_column_of_training(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"article": "title", "text": "body"}\n{"article": "title", "text": ""}\n{"article": "other form"}\n'
    )
    trained = ColumnsTaken("text", ("summary",), (), ())
    found = read_documents([str(file)], spec_of(), {}, taken=trained)
    assert [example.document for example in found.documents] == ["body", "other form"]
    assert [row.reason for row in found.left_out] == [f"{file}:2: no text in text"]
    assert documents_as_trained(file, None) == ["title", "title", "other form"]


def test_columns_inside_objects(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"doc": {"body": "b", "by": "Ada"}, "text": "t"}\n')
    found = read_documents([str(file)], spec_of("doc.body", "A text of {doc.by}."), {})
    assert [(one.document, one.fields) for one in found.documents] == [("b", {"doc.by": "Ada", "text": "t"})]


def test_alpaca_is_read_as_in_training(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"instruction": "Why?", "input": ""}\n{"instruction": "Sum up.", "input": "b"}\n')
    joined = ColumnsTaken("instruction", ("output",), (), (), "input")
    assert documents_as_trained(file, joined) == ["Why?", "Sum up.\n\nb"]
    assert documents_as_trained(file, ColumnsTaken("input", ("output",), ("instruction",), ())) == ["b"]


def test_a_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"zeros: a device, where a regular file was expected"):
        read_documents([str(tmp_path / "zeros")], spec_of(), {})
