"""Columns without a usual name are found by what is in them, or not at all."""

import json
from pathlib import Path

import pytest

from tiny import sentence
from tuneoff.data.likely_columns import LikelyColumns, likely_columns
from tuneoff.spec import DataSpec

NOTHING = LikelyColumns()


def columns_of(folder: Path, names: dict[str, list[str]], **given: str) -> LikelyColumns:
    path = folder / "rows.jsonl"
    rows = zip(*names.values(), strict=True)
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows), encoding="utf-8")
    return likely_columns(DataSpec.model_validate({"train_file": str(path), **given}))


def texts(words: int, count: int = 20) -> list[str]:
    return [f"{sentence(index, words)} {index}" for index in range(count)]


LONG, SHORT, OTHER = texts(30), texts(6), texts(5)
LABELS = ["very good", "very bad"] * 10
IDS = [f"t-{index}" for index in range(20)]
CHINESE = [f"本文的方法是一种用少量例子训练模型的新方法{index}" for index in range(20)]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"email": LONG, "about": SHORT}, LikelyColumns("email", "about")),
        ({"email": LONG, "subject": SHORT}, LikelyColumns("email", "subject", by_name=True)),
        ({"review": LONG, "Label": LABELS}, LikelyColumns("review", "Label", by_name=True)),
        ({"body": LONG, "title": SHORT, "author": OTHER}, LikelyColumns("body", "title", by_name=True)),
        ({"context": LONG, "question": SHORT, "answer": OTHER}, NOTHING),
        ({"question": SHORT, "answer": LONG}, LikelyColumns("question", "answer", by_name=True)),
        ({"title": LONG}, NOTHING),
        ({"Nr": IDS, "Betreff": SHORT, "Mail": LONG, "prio": LABELS}, LikelyColumns("Mail", "Betreff")),
        ({"正文": [f"{text}{text}" for text in CHINESE], "标题": CHINESE}, LikelyColumns("正文", "标题")),
        ({"email": LONG, "about": SHORT, "signature": OTHER}, NOTHING),
        ({"email": LONG, "prio": LABELS}, NOTHING),
        ({"email": LONG}, NOTHING),
        ({"a": IDS, "b": IDS}, NOTHING),
        ({"document": LONG, "about": SHORT}, LikelyColumns(None, "about")),
        ({"email": LONG, "summary": SHORT}, LikelyColumns("email", None)),
        ({"document": LONG, "summary": SHORT}, NOTHING),
        ({"document": LONG, "reference_1": SHORT, "reference_2": OTHER}, NOTHING),
        ({"email": LONG, "about": ["", *SHORT[1:]]}, LikelyColumns("email", "about")),
        ({"email": LONG, "about": ["", ""] * 2 + SHORT[4:]}, NOTHING),
    ],
)
def test_what_is_guessed(tmp_path: Path, names: dict[str, list[str]], found: LikelyColumns) -> None:
    assert columns_of(tmp_path, names) == found


def test_what_is_given_is_not_guessed(tmp_path: Path) -> None:
    names = {"email": LONG, "about": SHORT, "signature": OTHER}
    assert columns_of(tmp_path, names, document_column="email", summary_column="about") == NOTHING
    assert columns_of(tmp_path, names, summary_column="about") == LikelyColumns("email", None)


def test_a_file_without_a_header_is_left_to_the_message_about_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("".join(f'"{long}","{short}"\n' for long, short in zip(LONG, SHORT, strict=True)))
    assert likely_columns(DataSpec(train_file=str(path))) == NOTHING


def test_a_hub_data_set_is_not_opened() -> None:
    assert likely_columns(DataSpec(source="owner/name")) == NOTHING
