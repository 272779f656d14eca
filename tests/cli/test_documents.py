"""New documents for `tuneoff summarize`."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tuneoff.cli.documents import given_fields, read_documents
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
    return {example.id: example.document for example in read_documents(source, spec_of(column), {})}


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


def test_an_array_on_standard_input_is_refused(stdin) -> None:
    for content in (b'[{"text": "a"}]', b'[\n {"text": "a"}\n]', b'{\n "text": "a"\n}'):
        stdin(content)
        with pytest.raises(UserError, match="standard input: JSON, but not one object per line"):
            texts_of("-")


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
        (b"\xff\xfe\x00a", "UTF"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "not UTF-8"),
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
    with pytest.raises(UserError, match=words) as caught:
        texts_of(str(file))
    assert str(file) in str(caught.value)


def test_json_lines_by_name_are_never_a_text(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text("{\\bf Abstract}")
    with pytest.raises(UserError, match=r"new\.jsonl, line 1: not JSON"):
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
    with pytest.raises(UserError, match=r":2: .*\{aspect\}.*--field aspect=VALUE, or a column aspect"):
        read_documents(str(file), spec, {})
    given = [example.fields for example in read_documents(str(file), spec, {"aspect": "method"})]
    assert given == [{"aspect": "method", "year": "1999"}, {"aspect": "method"}]
    file.write_text(json.dumps(rows[0]))
    assert read_documents(str(file), spec, {})[0].fields == {"aspect": "goal", "year": "1999"}


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
