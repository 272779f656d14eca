"""What is refused or told before anything is done: the data against the instruction and against what can be scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.cli.show import plan_as_json, plan_as_text
from tuneoff.data import cleaning_report
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, ScoreSpec, StudySpec, Words
from tuneoff.study.runner import Prepared, prepare

Rows = list[dict[str, Any]]


@pytest.fixture
def prepared(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Prepared]:
    """Prepares a study of zero-shot on rows, with an instruction."""

    def of(rows: Rows, instruction: str = "Summarize.", words: Words = "english") -> Prepared:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        study = StudySpec(
            name="s",
            models=(ModelSpec(name=str(tiny_model("gpt_neo"))),),
            methods=("zero_shot",),
            data=DataSpec(train_file=str(path)),
            prompt=PromptSpec(instruction=instruction),
            score=ScoreSpec(words=words),
        )
        return prepare(study, tmp_path / "out")

    return of


def rows(summary: str = "a summary", **fields: Any) -> Rows:
    return [{"document": f"text {n}", "summary": f"{summary}", **fields} for n in range(30)]


def test_a_row_without_a_field_of_the_instruction_does_not_stop_the_others(prepared: Callable[..., Prepared]) -> None:
    aspects = rows(aspect="aim")
    aspects[17]["aspect"] = None
    found = prepared(aspects, "Summarize the {aspect}.")
    assert sum(found.counts.values()) == 29
    [line] = cleaning_report(found.dataset)
    assert "nothing to fill {aspect} of the instruction with" in line
    assert "rows.jsonl:18" in line


@pytest.mark.parametrize("name", ["document", "summary", "id"])
def test_what_is_no_field_is_told_to_be_none(prepared: Callable[..., Prepared], name: str) -> None:
    with pytest.raises(UserError, match="take it out of --instruction"):
        prepared(rows(id="x"), f"Summarize: {{{name}}}")


def test_a_column_that_begins_late_is_looked_for_no_longer(prepared: Callable[..., Prepared]) -> None:
    late = [dict(row, document=f"{row['document']} {part}") for part in range(5) for row in rows()]
    late[-1]["aspect"] = "aim"
    with pytest.raises(UserError, match=r"no column 'aspect' in the first 100 rows for \{aspect\}"):
        prepared(late, "Summarize the {aspect}.")


def test_a_field_that_no_row_has_is_refused(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(UserError, match=r"there is no column 'aspect' for \{aspect\} of the instruction"):
        prepared(rows(year=1999), "Summarize the {aspect}.")
    with pytest.raises(UserError, match=r"no row of it is left for train .*nothing to fill \{aspect\}.*: 30"):
        prepared(rows(aspect=None), "Summarize the {aspect}.")


@pytest.mark.parametrize("summary", ["краткое изложение", "一个总结", "ملخص قصير"])
def test_summaries_that_rouge_cannot_read_are_refused_with_the_way_out(
    prepared: Callable[..., Prepared], summary: str
) -> None:
    with pytest.raises(UserError, match="every text would score 0; add --rouge-words unicode") as caught:
        prepared(rows(summary))
    assert "\n" not in str(caught.value)
    assert prepared(rows(summary), words="unicode").unread.caution is None


def test_summaries_of_marks_alone_are_refused_in_any_dialect(prepared: Callable[..., Prepared]) -> None:
    with pytest.raises(UserError, match="every text would score 0; correct the data"):
        prepared(rows("?!"), words="unicode")


def test_one_summary_that_rouge_can_read_is_enough(prepared: Callable[..., Prepared]) -> None:
    mixed = rows("краткое изложение")
    for row in mixed[::2]:
        row["summary"] = "BERT"
    found = prepared(mixed)
    assert 0 < found.unread.wordless < found.counts["test"]
    assert "test examples have no summary with a word" in str(found.unread.caution)
    told = plan_as_text(found)
    assert plan_as_json(found)["data"]["caution"] == found.unread.caution
    assert f"CAUTION: {found.unread.caution}" in told


def test_what_other_dialects_do_not_see_is_told_in_their_words(prepared: Callable[..., Prepared]) -> None:
    mixed = rows("краткое изложение")
    for row in mixed[::2]:
        row["summary"] = "?!"
    said = str(prepared(mixed, words="unicode").unread.caution)
    assert "have no summary with a letter or digit" in said
    assert "--rouge-words" not in said


def test_words_that_rouge_cuts_are_told_from_one_in_a_hundred_on(prepared: Callable[..., Prepared]) -> None:
    assert "33.3 % of the words" in str(prepared(rows("für die Modelle")).unread.caution)
    assert prepared(rows("for the models"), words="english").unread.caution is None
