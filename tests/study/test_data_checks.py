"""Data on which ROUGE would say little is named before anything is trained."""

import pytest

from tuneoff.data import ColumnsTaken, Example
from tuneoff.study.data_checks import (
    columns_line,
    copied_references,
    equal_references,
    few_documents,
    long_references,
    may_be_longer,
    sample,
)

SUMMARY = "The council approved the bus line."


def example(number: int, document: str, *references: str) -> Example:
    return Example(id=f"d{number}", document=document, references=references, group=f"g{number}")


def of_references(*texts: str) -> list[Example]:
    return [example(number, f"document {number}", text) for number, text in enumerate(texts)]


def test_references_that_stand_in_the_document_are_counted() -> None:
    copied = [example(n, f"Input {n}. ### Response:\nThe council  approved\nthe bus LINE.", SUMMARY) for n in range(3)]
    free = [example(n, f"Input {n}.", SUMMARY) for n in range(3, 10)]
    assert str(copied_references(copied)).startswith("in 100 % of the test documents a reference stands word for word")
    assert str(copied_references([*copied, *free])).startswith("in 30 % of")
    assert copied_references([*copied[:1], *free]) is None
    assert copied_references([]) is None


def test_one_of_several_references_is_enough() -> None:
    assert copied_references([example(0, SUMMARY, "Another text altogether here.", SUMMARY)]) is not None


@pytest.mark.parametrize("answer", ["yes", "the bus line", "Harwick-on-Sea-and-Land"])
def test_short_answers_are_in_documents_by_chance(answer: str) -> None:
    assert copied_references([example(0, f"It was {answer} that they meant.", answer)]) is None


def test_scripts_without_spaces_are_compared_too() -> None:
    text = "市议会周二批准了通往医院的新巴士线路"
    assert copied_references([example(0, f"会议开始。{text}。散会。", text)]) is not None


def test_equal_references_are_named() -> None:
    assert str(equal_references(of_references(*["same  text"] * 2, "Same text"))).startswith(
        "all 3 test references are the same text"
    )
    assert str(equal_references(of_references(*["a b"] * 19, "c d"))).startswith("95 % of the test references")
    assert "only 2 different texts" in str(equal_references(of_references(*["yes", "no"] * 5)))
    assert equal_references(of_references(*["yes", "no"] * 4)) is None  # few documents have few texts
    assert equal_references(of_references("one", "two", "three")) is None
    assert equal_references(of_references("alone")) is None


def test_long_references_are_compared_with_what_is_generated() -> None:
    said = str(long_references([500] * 20, 64, 512))
    assert "100 % of the test references are longer than --max-new-tokens 64 (median 500 tokens)" in said
    assert "raise it to 512, and --max-length to 960 " in said
    assert str(long_references([10] * 10 + [70] * 10, 64, 512)).startswith("50 %")
    assert long_references([10] * 90 + [70] * 10, 64, 512) is None
    assert long_references([64] * 20, 64, 512) is None
    assert long_references([], 64, 512) is None


def test_only_texts_of_many_bytes_need_a_tokenizer() -> None:
    assert not may_be_longer(of_references("x" * 64), 64)
    assert may_be_longer(of_references("x" * 65), 64)
    assert may_be_longer(of_references("ж" * 33), 64)


def test_few_documents_have_a_way_out() -> None:
    assert few_documents(10, 100, held_out=True, limit=None) is None
    said = str(few_documents(4, 40, held_out=True, limit=None))
    assert said.startswith("only 4 test documents: with fewer than 10 no difference between methods is reported; ")
    assert said.endswith("with 40 rows, add --test-share 0.5, which tests on about 20")


def test_columns_are_named_once_for_splits_that_share_them() -> None:
    one = ColumnsTaken("text", ("summary",), ("title",), ("article",))
    other = ColumnsTaken("text", ("summary1", "summary2"), (), ())
    both = ColumnsTaken("instruction", ("output",), (), (), "input")
    assert columns_line({"train": both}) == "document=instruction+input, summary=output"
    said = "document=text, summary=summary, fields=title, passed over: article"
    assert columns_line({"train": one, "validation": one}) == said
    assert (
        columns_line({"train": one, "test": other}) == f"train: {said}; test: document=text, summary=summary1+summary2"
    )
    assert columns_line({}) is None


def test_a_sample_is_spread_over_all_examples() -> None:
    rows = of_references(*(str(number) for number in range(2500)))
    chosen = sample(rows)
    assert 800 <= len(chosen) <= 1000
    assert chosen[0].id == "d0"
    assert int(chosen[-1].id[1:]) > 2400
    assert sample(rows[:7]) == rows[:7]
    assert sample([]) == []
