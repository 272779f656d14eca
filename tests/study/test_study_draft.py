"""A suggestion as the text of a study file."""

import tomllib
from pathlib import Path

from tuneoff.spec import DataSpec, ModelSpec, StudySpec
from tuneoff.study.data_facts import DataFacts, Lengths
from tuneoff.study.study_draft import draft
from tuneoff.study.suggestion import Suggestion

LENGTHS = Lengths(10, 20, 30)
FACTS = DataFacts(
    unit="token", documents=LENGTHS, wanted=LENGTHS, wanted_words=5, wanted_sentences=1, wanted_texts=9, sampled=9,
    language=None, wanted_language=None, duplicates=0, in_two_splits=0, several_references=0.0,
)  # fmt: skip


def written(file: Path, study: StudySpec, description: str = "rows.jsonl") -> str:
    made = Suggestion(study, FACTS, why={"seeds": "one says little"}, left_out={"full": "too large"})
    return draft(made, file, description, ["--budget 15m: nothing"])


def test_reasons_precede_their_settings(tmp_path: Path) -> None:
    study = StudySpec(name="mine", data=DataSpec(train_file=str(tmp_path / "rows.jsonl")), seeds=3)
    text = written(tmp_path / "study.toml", study)
    assert "# one says little\nseeds = 3\n" in text
    assert "# full is left out: too large\n" in text
    assert "# - --budget 15m: nothing\n" in text
    assert "halving" not in text  # as by default
    assert all(len(line) <= 120 for line in text.splitlines() if line.startswith("#"))


def test_texts_of_strangers_stay_in_their_line(tmp_path: Path) -> None:
    """A name or a column with a line feed, a quote or a control code sets nothing."""
    column = 'a"\nseeds = 9\x7f\x1b[2J'
    study = StudySpec(name="mine", data=DataSpec(train_file=str(tmp_path / "rows.jsonl"), document_column=column))
    text = written(tmp_path / "study.toml", study, description="x\nseeds = 8\x1b[2J")
    found = tomllib.loads(text)
    assert found["data"]["document_column"] == column
    assert found["seeds"] == 1
    assert "\x1b" not in text


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    data = DataSpec(train_file=("a.jsonl", "../b.jsonl"), test_file=str(tmp_path / "t.jsonl"))
    study = StudySpec(name="mine", data=data, models=(ModelSpec(name="model"),))
    found = tomllib.loads(written(Path("studies/study.toml"), study))
    assert found["data"]["train_file"] == ["../a.jsonl", "../../b.jsonl"]
    assert found["data"]["test_file"] == str(tmp_path / "t.jsonl")
    assert found["models"] == ["../model"]


def test_code_of_a_model_is_not_allowed_by_the_file(tmp_path: Path) -> None:
    model = ModelSpec(name="owner/name", trust_remote_code=True, revision="v1")
    study = StudySpec(name="mine", data=DataSpec(source="starter"), models=(model,))
    assert tomllib.loads(written(tmp_path / "s.toml", study))["models"] == [{"name": "owner/name", "revision": "v1"}]
