"""What an export loses: which documents, and the interval of the difference."""

from pathlib import Path

import pytest

from tuneoff.export import export_check
from tuneoff.export.export_check import ExportCheck, check_export, choose_documents
from tuneoff.results.run_record import Document, Prediction, Record
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

RECORD = Record(
    run_id="x",
    name="lora-s0",
    status="finished",
    spec=RunSpec(
        model=ModelSpec(), prompt=PromptSpec(), data=DataSpec(source="starter"), method=MethodSpec(name="lora")
    ),
    started_at="",
)


def rows(count: int, groups: int | None = None) -> list[tuple[Document, Prediction]]:
    return [
        (
            Document(id=f"d{index}", group=str(index % (groups or count)), document="a b", references=("one two",)),
            Prediction(id=f"d{index}", text="one two", scores={"rouge1": 100.0}),
        )
        for index in range(count)
    ]


def checked(monkeypatch: pytest.MonkeyPatch, texts: list[str], groups: int | None = None) -> ExportCheck:
    asked = []

    def answer(code: str, documents: object) -> list[str]:
        asked.append(code)
        return texts

    monkeypatch.setattr(export_check, "texts_of_card", answer)
    code = 'FOLDER = "."\nBASE_FOLDER = "the folder of the base model\'s file"\n'
    seen: list[tuple[int, int]] = []
    found = check_export(
        code,
        "transformers 5",
        Path("/a'b"),
        Path("/base"),
        RECORD,
        "rouge1",
        rows(len(texts), groups),
        lambda done, total, seconds: seen.append((done, total)),
    )
    assert asked == ["FOLDER = \"/a'b\"\nBASE_FOLDER = '/base'\n"]
    assert seen == [(number, len(texts)) for number in range(1, len(texts) + 1)]
    return found


def test_the_loss_has_a_paired_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(monkeypatch, ["one two"] * 18 + ["one"] * 2)
    assert (found.run_mean, found.same_texts) == (100.0, 18)
    assert found.loss == pytest.approx(100 / 3 / 10)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low < found.loss < found.high < 10
    assert found.sentence == (
        f"lost 3.3 points, {found.low:.1f} to {found.high:.1f}, of ROUGE-1 on 20 documents in transformers 5; 18 of "
        "its texts are those of the study"
    )


def test_equal_texts_and_few_documents_have_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    same = checked(monkeypatch, ["one two"] * 12)
    assert same.sentence == (
        "lost 0.0 points of ROUGE-1 on 12 documents in transformers 5; all of its texts are those of the study"
    )
    few = checked(monkeypatch, ["one two", "one"] * 10, groups=4)
    assert (few.low, few.high) == (None, None)


def test_a_gain_is_a_gain() -> None:
    found = ExportCheck(
        metric="rouge1",
        documents=200,
        run_mean=40,
        export_mean=40.3,
        loss=-0.3,
        low=-0.7,
        high=0.04,
        same_texts=150,
        program="llama_cpp_python 0.3.36",
        seconds=1,
    )
    assert found.sentence.startswith("gained 0.3 points, 0.0 to 0.7, of ROUGE-1 on 200 documents")


def test_documents_are_spread_over_the_test_split() -> None:
    every = rows(10)
    documents, predictions = [document for document, _ in every], [row for _, row in every]
    documents[3] = documents[3].model_copy(update={"document": " "})  # withheld
    documents[4] = documents[4].model_copy(update={"fields": {"aspect": "other"}})
    chosen = choose_documents(documents, predictions[:-1], {"aspect": "result"}, 3)
    assert [document.id for document, _ in chosen] == ["d0", "d2", "d6"]
    assert [row.id for _, row in chosen] == ["d0", "d2", "d6"]
    assert choose_documents([], [], {}, 5) == []
