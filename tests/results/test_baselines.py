"""Outputs of outside systems are read without guessing, and scored by the same rule as the rows of documents."""

import json

import pytest

from tuneoff.data.example import Example, group_id
from tuneoff.errors import UserError
from tuneoff.metrics import METRICS, RougeDialect, score
from tuneoff.results.baselines import EXTRACTIVE_ROWS, OutsideTexts, extractive_rows, outside_rows, read_outside

IDS = ["paper-1", "paper-2", "3"]


def example(identity: str, document: str, *references: str) -> Example:
    return Example(id=identity, document=document, references=references, group=group_id(document))


EXAMPLES = [
    example("paper-1", "Cats sleep. Dogs bark. Birds sing. Fish swim.", "Birds sing songs.", "Fish swim."),
    example("paper-2", "Only one sentence here.", "One sentence."),
]


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def row(identity, text):
    return json.dumps({"id": identity, "text": text})


def test_reads_in_the_order_of_the_ids(tmp_path):
    lines = [
        row(3, "third"),
        "",
        json.dumps({"text": "", "cost": 0.1, "id": " paper-2 "}),
        row("paper-1", "Ünï\u2028x"),
    ]
    file = write(tmp_path / "gpt.jsonl", lines)
    assert list(read_outside(file, IDS).texts.items()) == [("paper-1", "Ünï\u2028x"), ("paper-2", ""), ("3", "third")]
    assert read_outside(str(file), IDS) == read_outside(file, IDS)


def test_reads_a_byte_order_mark_and_csv(tmp_path):
    marked = tmp_path / "bom.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + row("a", "x").encode())
    assert read_outside(marked, ["a"]).texts == {"a": "x"}
    assert read_outside(write(tmp_path / "t.csv", ["id,text", 'a,"x, y"']), ["a"]).texts == {"a": "x, y"}


@pytest.mark.parametrize(
    ("lines", "line", "parts"),
    [
        ([row("paper-1", "x"), '{"id": "paper-2", "text": '], 2, ["not JSON"]),
        (['["paper-1", "x"]', row("paper-2", "x")], 1, ["a JSON list, but an object"]),
        ([row("paper-1", "x"), '"paper-2"'], 2, ["object"]),
        ([row("paper-1", "x"), json.dumps({"id": "paper-2", "summary": "x"})], 2, ["'text'", "'summary'"]),
        ([json.dumps({"text": "x"})], 1, ["'id'", "'text'"]),
        (["{}"], 1, ["'id'", "none"]),
        ([row("paper-1", "x"), row("paper_2", "x")], 2, ["'paper_2'", "did you mean 'paper-2'?"]),
        ([row("zebra", "x")], 1, ["'zebra'", "remove"]),
        ([row("paper-1", "x"), row("paper-2", "y"), row("paper-1", "x")], 3, ["'paper-1'", "already", ":1"]),
        ([row("paper-1", None)], 1, ["null", '""']),
        ([row("paper-1", 5)], 1, ["int"]),
        ([row(None, "x")], 1, ["id is null"]),
        ([row(["paper-1"], "x")], 1, ["id is of type list"]),
        (['{"id": "paper-1", "text": "\\ud800"}'], 1, ["surrogate"]),
        ([row("paper-1", "x"), '{"id": "paper-2", "text": "\0"}'], 2, ["NUL"]),
        (["[" * 100_000], 1, ["nested too deep"]),
        (['{"a":' * 100_000], 1, ["nested too deep"]),
    ],
)
def test_a_bad_line_is_named_with_the_way_out(tmp_path, lines, line, parts):
    file = write(tmp_path / "bad.jsonl", lines)
    with pytest.raises(UserError) as caught:
        read_outside(file, IDS)
    message = str(caught.value)
    assert any(f"bad.jsonl{place}{line}" in message for place in (":", ", line ", ", row "))
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_bytes_of_no_encoding_are_refused_and_those_of_windows_1252_are_read(tmp_path):
    file = tmp_path / "latin.jsonl"
    file.write_bytes(b'{"id": "paper-1", "text": "caf\xe9"}\n')
    found = read_outside(file, ["paper-1"])
    assert found.texts == {"paper-1": "caf\u00e9"}
    assert "was read as Windows-1252 (cp1252)" in found.cautions[0]
    file.write_bytes('{"id": "paper-1", "text": "\u0444"}\n'.encode("cp1251"))
    assert read_outside(file, ["paper-1"], "cp1251").texts == {"paper-1": "\u0444"}
    file.write_text('{"id": "paper-1", "text": "caf\u00e9"}\n', encoding="utf-8")
    assert read_outside(file, ["paper-1"], "cp1251") == OutsideTexts({"paper-1": "caf\u00e9"})
    file.write_bytes(b'{"id": "paper-1", "text": "caf\xff"}\n')
    with pytest.raises(UserError, match=r"latin\.jsonl:1: .*UTF-8"):
        read_outside(file, IDS)


@pytest.mark.parametrize("name", ["out.txt", "out.jsonl"])
def test_lines_of_plain_text_are_answered_with_the_form(tmp_path, name):
    file = write(tmp_path / name, ["A first summary.", "A second one."])
    with pytest.raises(UserError, match=r'write a line .* ends in \.jsonl: \{"id": "paper-1", "text": "\.\.\."\}'):
        read_outside(file, IDS)


def test_hostile_ids_and_keys_stay_off_the_terminal_and_short(tmp_path):
    for line in (row("\x1b[2J" + "x" * 10_000, "t"), json.dumps({"\x1b[2J" + "k" * 10_000: 1})):
        with pytest.raises(UserError) as caught:
            read_outside(write(tmp_path / "hostile.jsonl", [line]), IDS)
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_missing_documents_are_counted(tmp_path):
    file = write(tmp_path / "part.jsonl", [row("paper-2", "x")])
    with pytest.raises(UserError, match=r"part\.jsonl: 2 of 3 test documents are missing, the first is 'paper-1'"):
        read_outside(file, IDS)
    with pytest.raises(UserError, match=r"1 of 2 test documents is missing, the first is 'b'"):
        read_outside(write(tmp_path / "one.jsonl", [row("a", "x")]), ["a", "b"])


@pytest.mark.parametrize("name", ["absent.jsonl", "", "text.docx"])
def test_files_that_cannot_be_read(tmp_path, name):
    if name.endswith("docx"):
        write(tmp_path / name, ["x"])
    with pytest.raises(UserError):
        read_outside(tmp_path / name, IDS)


def test_outside_rows_are_scored_like_any_text():
    dialect = RougeDialect(stemmer=False)
    rows = outside_rows({"paper-2": "", "paper-1": "Birds sang 7 songs."}, EXAMPLES, dialect)
    assert [prediction.id for prediction in rows] == ["paper-1", "paper-2"]
    assert rows[0].scores == score("Birds sang 7 songs.", EXAMPLES[0].document, EXAMPLES[0].references, dialect)
    assert rows[0].scores["unsupported_numbers"] == 1
    assert rows[1].scores["empty"] == 1
    assert rows[0].scores["unstopped"] is None
    assert rows[0].stopped is None


def test_extractive_rows():
    rows = extractive_rows(EXAMPLES, RougeDialect())
    assert tuple(rows) == EXTRACTIVE_ROWS
    texts = {name: [prediction.text for prediction in found] for name, found in rows.items()}
    assert texts == {
        "LEAD-1": ["Cats sleep.", "Only one sentence here."],
        "LEAD-3": ["Cats sleep. Dogs bark. Birds sing.", "Only one sentence here."],
        "oracle-1": ["Fish swim.", "Only one sentence here."],
    }
    for found in rows.values():
        for prediction, each in zip(found, EXAMPLES, strict=True):
            assert prediction.id == each.id
            assert prediction.scores == score(prediction.text, each.document, each.references, RougeDialect())
            assert set(prediction.scores) == set(METRICS)
    assert rows["oracle-1"][0].scores["rouge1"] == pytest.approx(100.0)


def test_oracle_row_follows_the_dialect():
    rows = extractive_rows(EXAMPLES[:1], RougeDialect(multi_reference="first"))
    assert rows["oracle-1"][0].text == "Birds sing."
