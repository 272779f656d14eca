"""What is known of the texts of a data set before training."""

import json
from pathlib import Path

from tuneoff.data import load_dataset
from tuneoff.models import load_tokenizer
from tuneoff.spec import DataSpec, ModelSpec, StudySpec
from tuneoff.study.data_facts import Lengths, fact_lines, look_at_texts


def study_of(folder: Path, rows: list[dict[str, object]], **settings: object) -> StudySpec:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return StudySpec.model_validate({"data": DataSpec(train_file=str(path)), **settings})


def rows_of(count: int, words: int = 30) -> list[dict[str, object]]:
    return [
        {
            "document": f"The text number {at} of it is " + "long and " * (words // 2),
            "summary": f"Text {at}. It is long.",
        }
        for at in range(count)
    ]


def test_lengths() -> None:
    assert Lengths.of(list(range(100, 0, -1))) == Lengths(50, 95, 100)
    assert Lengths.of([7]) == Lengths(7, 7, 7)


def test_facts_without_a_tokenizer_are_in_characters(tmp_path: Path) -> None:
    rows = rows_of(30)
    rows[3] = rows[4]
    rows += [{"document": rows[0]["document"], "summary": ["One.", "Two."]}]
    study = study_of(tmp_path, rows)
    facts = look_at_texts(study, load_dataset(study.data), None)
    assert (facts.unit, facts.cut, facts.frame) == ("character", None, None)
    assert facts.duplicates == 1
    assert (facts.wanted_sentences, facts.wanted_words) == (2, 5)
    assert facts.language == "English"
    lines = list(fact_lines(facts))
    assert lines[0].endswith(", in English")
    assert "usually 2 sentences, 5 words" in lines[1]
    assert "duplicates: 1 row a second time" in lines


def test_words_are_not_counted_in_scripts_without_spaces(tmp_path: Path) -> None:
    text = "本文的方法是一种用少量例子训练模型的新方法。"
    study = study_of(tmp_path, [{"document": f"{text}{index}" * 3, "summary": f"{index}{text}"} for index in range(30)])
    [_, wanted, *_] = fact_lines(look_at_texts(study, load_dataset(study.data), None))
    assert wanted.endswith("usually 1 sentence, in Chinese")


def test_truncated_documents_are_counted(tmp_path: Path, tiny_model) -> None:
    rows = [*rows_of(24), *rows_of(40, words=600)[24:]]
    model = ModelSpec(name=str(tiny_model("gpt_neo")))
    study = study_of(tmp_path, rows, models=(model,), methods=("zero_shot",), prompt={"max_length": 400})
    dataset = load_dataset(study.data)
    facts = look_at_texts(study, dataset, load_tokenizer(model))
    long = sum(len(example.document) > 1000 for example in dataset.train)
    assert facts.unit == "token"
    assert facts.cut == long / len(dataset.train)
    assert f"{100 * facts.cut:.0f} % of the documents are longer than the prompt allows and are truncated" in list(
        fact_lines(facts)
    )
    assert facts.frame is not None
    assert facts.frame > 5
    narrow = study.model_copy(update={"prompt": study.prompt.model_copy(update={"max_length": 8})})
    assert look_at_texts(narrow, dataset, load_tokenizer(model)).cut is None
