"""Long and wide tables of scores, in every form of file, and what is refused of them."""

import json
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pytest
from pyarrow import parquet

from tuneoff.errors import UserError
from tuneoff.scores import ScoreColumns, ScoreData, read_score_files

Write = Callable[[str, str], str]
Values = Mapping[str, Sequence[float]]


def read(*paths: str, **columns: str) -> ScoreData:
    return read_score_files(paths, ScoreColumns(**columns))  # type: ignore[arg-type]


def one_metric(data: ScoreData) -> dict[tuple[str, int], dict[str, float | None]]:
    [runs] = data.scores.values()
    return {key: dict(row) for key, row in runs.items()}


def expected(values: Values) -> dict[tuple[str, int], dict[str, float | None]]:
    return {(name, 0): {f"q{at}": value for at, value in enumerate(row)} for name, row in values.items()}


def long_rows(values: Values) -> list[dict[str, object]]:
    return [
        {"model": name, "question_id": f"q{at}", "score": value}
        for name, row in values.items()
        for at, value in enumerate(row)
    ]


def wide_rows(values: Values) -> list[dict[str, object]]:
    count = len(next(iter(values.values())))
    return [{"id": f"q{at}", **{name: row[at] for name, row in values.items()}} for at in range(count)]


def csv_of(rows: list[dict[str, object]], separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("shape", [long_rows, wide_rows])
def test_every_form_of_file_gives_the_same_table(
    shape: Callable[[Values], list[dict[str, object]]], values: Values, write: Write
) -> None:
    rows = shape(values)
    lines = "\n".join(map(json.dumps, rows))
    paths = [
        write("a.csv", csv_of(rows)),
        write("b.csv", csv_of(rows, ";")),
        write("c.tsv", csv_of(rows, "\t")),
        write("d.jsonl", lines),
        write("e.json", json.dumps(rows)),
    ]
    frame = write("f.parquet", "")
    parquet.write_table(pa.Table.from_pylist(rows), frame)
    for path in (*paths, frame):
        data = read(path)
        assert one_metric(data) == expected(values), path
        assert data.systems == tuple(values)


def test_columns_that_are_given_are_taken(write: Write) -> None:
    text = "who,what,points,try,theme,kind,score\nA,1,0.5,7,x,f1,9\nB,1,0.6,7,x,f1,9\n"
    columns = {
        "system": "who",
        "item": "what",
        "score": "points",
        "seed": "try",
        "group": "theme",
        "metric": "kind",
    }
    data = read(write("t.csv", text), **columns)
    assert data.scores == {"f1": {("A", 7): {"1": 0.5}, ("B", 7): {"1": 0.6}}}
    assert data.groups == {"1": "x"}
    with pytest.raises(UserError, match=r"t\.csv: --item-column wat: no such column; did you mean `what`\?"):
        read(write("t.csv", text), **{**columns, "item": "wat"})


def test_a_column_inside_an_object_can_be_named(write: Write) -> None:
    rows = [{"model": name, "id": 1, "score": 1, "doc": {"title": "T"}} for name in "ab"]
    data = read(write("t.jsonl", "\n".join(map(json.dumps, rows))), group="doc.title")
    assert data.groups == {"1": "T"}


def test_usual_names_are_found_whatever_their_case(write: Write) -> None:
    data = read(write("t.csv", "Model,Item_ID,Seed,Cluster,Metric,Accuracy\nA,1,3,g,exact,True\nB,1,3,g,exact,False\n"))
    assert data.scores == {"exact": {("A", 3): {"1": 1.0}, ("B", 3): {"1": 0.0}}}
    assert data.groups == {"1": "g"}


def test_each_column_of_numbers_is_a_metric_where_a_column_names_the_systems(write: Write) -> None:
    data = read(write("t.csv", "model,id,rouge1,f1,answer\nA,1,10,0.1,yes it is\nB,1,20,,no\n"))
    assert data.scores == {
        "rouge1": {("A", 0): {"1": 10.0}, ("B", 0): {"1": 20.0}},
        "f1": {("A", 0): {"1": 0.1}, ("B", 0): {"1": None}},
    }
    assert data.notes == ("Columns that are not of numbers are not used: answer.",)


def test_a_file_without_a_column_of_systems_is_one_system(write: Write) -> None:
    first, second = write("gpt.csv", "id,score\n1,0.5\n2,0.1\n"), write("llama.csv", "id,score\n1,0.25\n2,0.3\n")
    assert one_metric(read(first, second)) == {("gpt", 0): {"1": 0.5, "2": 0.1}, ("llama", 0): {"1": 0.25, "2": 0.3}}
    assert set(one_metric(read(f"A={first}", second))) == {("A", 0), ("llama", 0)}


def test_items_without_a_name_are_numbered_and_this_is_said(write: Write) -> None:
    path = write("t.csv", "A,B\n1,2\n3,4\n")
    data = read(path)
    assert one_metric(data) == {("A", 0): {"1": 1.0, "2": 3.0}, ("B", 0): {"1": 2.0, "2": 4.0}}
    assert data.notes == (f"Items are numbered by row, because no column names them: {path} (--item-column).",)


def test_missing_scores_are_missing(write: Write) -> None:
    data = read(write("t.csv", "id,A,B\n1,,NA\n2,nan,N/A\n3,null,-\n4,1,2\n"))
    assert one_metric(data)["A", 0] == {"1": None, "2": None, "3": None, "4": 1.0}
    assert one_metric(data)["B", 0] == {"1": None, "2": None, "3": None, "4": 2.0}


REFUSED = {
    "text as a score": (
        "model,id,score\nA,1,0.5\nA,2,good\n",
        r"t\.csv:3: 'good' in the column 'score' is not a score",
    ),
    "infinity": ("model,id,score\nA,1,inf\n", r"t\.csv:2: 'inf' in the column 'score' is not a score"),
    "text in a column of numbers": (
        "id,A,B\n1,1,2\n2,3,4\n3,x,5\n",
        r"t\.csv:4: 'x' in the column 'A' is not a score, but",
    ),
    "no item": ("model,score\nA,1\n", r"t\.csv: no column of items, .* name it with --item-column"),
    "an empty system": ("model,id,score\nA,1,1\n,2,1\n", r"t\.csv:3: an empty cell in the column 'model'"),
    "an empty item": ("id,A,B\n1,2,3\n,4,5\n", r"t\.csv:3: an empty cell in the column 'id'"),
    "no numbers": ("id,text\n1,hello\n", r"t\.csv: no column of numbers"),
    "no row": ("id,A,B\n", r"t\.csv: no row"),
    "a row too short": ("id,A,B\n1,2,3\n2,4\n", r"t\.csv:3: number of fields is 2, but the header has 3; put quotes"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_table_is_refused_with_its_line(text: str, message: str, write: Write) -> None:
    with pytest.raises(UserError, match=message):
        read(write("t.csv", text))


def test_only_the_systems_that_are_asked_for_are_compared(write: Write) -> None:
    path = write("t.csv", "id,A,B,year,answer\n1,2,3,2020,5\n2,4,5,2021,x\n3,4,5,2021,6\n")
    with pytest.raises(UserError, match="'x' in the column 'answer' is not a score"):
        read(path)
    data = read_score_files([path], ScoreColumns(systems=("A", "B")))
    assert data.systems == ("A", "B")
    with pytest.raises(UserError, match="--systems C: no such system; there are A"):
        read_score_files([path], ScoreColumns(systems=("A", "C")))


def test_a_wide_table_that_does_not_fit_into_memory_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.scores.tables.MOST_ROWS", 2)
    assert len(read(write("t.csv", "id,A,B\n1,2,3\n2,4,5\n")).systems) == 2
    with pytest.raises(UserError, match=r"t\.csv:4: more than 2 rows"):
        read(write("t.csv", "id,A,B\n1,2,3\n2,4,5\n3,4,5\n"))
