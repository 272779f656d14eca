"""The inputs of a study, checked before anything is run: the data, the instruction, and what can be scored."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuneoff.data import ColumnsTaken, Example, cleaning_report
from tuneoff.errors import UserError
from tuneoff.metrics import METRICS
from tuneoff.results.run_record import Document
from tuneoff.results.study_state import DataFile
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, RougeWords, ScoreSpec, StudySpec
from tuneoff.study import inputs as inputs_module
from tuneoff.study.inputs import StudyInputs, check_prompts, document_row, load_inputs

Rows = list[dict[str, Any]]

# Half-width sound marks: Python takes them for letters, so cleaning keeps them; no dialect of ROUGE counts them.
UNCOUNTED = "\N{HALFWIDTH KATAKANA VOICED SOUND MARK}\N{HALFWIDTH KATAKANA SEMI-VOICED SOUND MARK}"


@pytest.fixture
def study_of(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., StudySpec]:
    """Makes a study of zero-shot on rows, with an instruction."""

    def make(
        rows: Rows, instruction: str = "Summarize.", words: RougeWords = "english", **settings: object
    ) -> StudySpec:
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
        return StudySpec.model_validate({**study.model_dump(), **settings})

    return make


@pytest.fixture
def load(study_of: Callable[..., StudySpec]) -> Callable[..., StudyInputs]:
    """Loads the inputs of such a study."""
    return lambda *rows, **settings: load_inputs(study_of(*rows, **settings))


def rows(summary: str = "a summary", **fields: Any) -> Rows:
    return [{"document": f"text {n}", "summary": f"{summary}", **fields} for n in range(30)]


def test_a_row_without_a_field_of_the_instruction_does_not_stop_the_others(load: Callable[..., StudyInputs]) -> None:
    aspects = rows(aspect="aim")
    aspects[17]["aspect"] = None
    found = load(aspects, "Summarize the {aspect}.")
    assert sum(found.counts.values()) == 29
    [line] = cleaning_report(found.dataset)
    assert "no value for {aspect} of the instruction" in line
    assert "rows.jsonl:18" in line


@pytest.mark.parametrize("name", ["document", "summary", "id"])
def test_a_name_that_is_not_a_field_is_refused(load: Callable[..., StudyInputs], name: str) -> None:
    with pytest.raises(UserError, match="from --instruction"):
        load(rows(id="x"), f"Summarize: {{{name}}}")


def test_a_column_that_begins_late_is_not_found(load: Callable[..., StudyInputs]) -> None:
    late = [dict(row, document=f"{row['document']} {part}") for part in range(5) for row in rows()]
    late[-1]["aspect"] = "aim"
    with pytest.raises(UserError, match=r"no column 'aspect' in the first 100 rows for \{aspect\}"):
        load(late, "Summarize the {aspect}.")


def test_a_field_that_no_row_has_is_refused(load: Callable[..., StudyInputs]) -> None:
    with pytest.raises(UserError, match=r"there is no column 'aspect' for \{aspect\} of the instruction"):
        load(rows(year=1999), "Summarize the {aspect}.")
    with pytest.raises(UserError, match=r"no row is left for train .*no value for \{aspect\}.*: 30"):
        load(rows(aspect=None), "Summarize the {aspect}.")


@pytest.mark.parametrize("summary", ["краткое изложение", "一个总结", "ملخص قصير"])
def test_summaries_that_rouge_cannot_read_are_refused_with_what_to_do(
    load: Callable[..., StudyInputs], summary: str
) -> None:
    with pytest.raises(UserError, match="every text would score 0; add --rouge-words unicode") as caught:
        load(rows(summary))
    assert "\n" not in str(caught.value)
    assert load(rows(summary), words="unicode").coverage.caution is None


@pytest.mark.parametrize("words", ["english", "unicode", "characters"])
def test_summaries_of_punctuation_are_refused_in_any_dialect(load: Callable[..., StudyInputs], words: str) -> None:
    with pytest.raises(UserError, match=r"no row is left .*summary has no letter or digit: 30\); correct the data"):
        load(rows("?!"), words=words)


def test_letters_that_no_dialect_counts_are_refused_without_a_flag(load: Callable[..., StudyInputs]) -> None:
    with pytest.raises(UserError, match="every text would score 0; correct the data"):
        load(rows(UNCOUNTED), words="unicode")


def test_one_summary_that_rouge_can_read_is_enough(load: Callable[..., StudyInputs]) -> None:
    mixed = rows("краткое изложение")
    for row in mixed[::2]:
        row["summary"] = "BERT"
    found = load(mixed)
    assert 0 < found.coverage.unscorable < found.counts["test"]
    assert "test examples have no summary with a word" in str(found.coverage.caution)
    assert found.data_file(DataSpec(source="starter")).caution == found.coverage.caution


def test_a_caution_is_worded_for_the_dialect(load: Callable[..., StudyInputs]) -> None:
    mixed = rows("краткое изложение")
    for row in mixed[::2]:
        row["summary"] = UNCOUNTED
    said = str(load(mixed, words="unicode").coverage.caution)
    assert "have no summary with a letter or digit" in said
    assert "--rouge-words" not in said


def test_truncated_words_are_reported_from_one_in_a_hundred_on(load: Callable[..., StudyInputs]) -> None:
    assert "33.3 % of the words" in str(load(rows("für die Modelle")).coverage.caution)
    assert load(rows("for the models"), words="english").coverage.caution is None


def test_counts_and_sizes_are_those_of_the_data(load: Callable[..., StudyInputs]) -> None:
    found = load(rows())
    assert sum(found.counts.values()) == 30
    assert found.sizes.train_examples == found.counts["train"] == found.hashes.train_examples
    assert found.sizes.test_documents == found.counts["test"]
    assert found.hashes.examples_at is not None
    assert found.hashes.examples_at(0.5, 0) == round(found.counts["train"] / 2)


def test_what_is_stored_of_the_data_names_no_folder(load: Callable[..., StudyInputs], tmp_path: Path) -> None:
    broken = rows()
    broken[3]["document"] = ""
    found = load(broken)
    stored = found.data_file(DataSpec(train_file=str(tmp_path / "rows.jsonl")))
    assert any("rows.jsonl" in line for line in stored.cleaning)
    assert str(tmp_path) not in stored.model_dump_json()
    assert (stored.counts, stored.content_hash) == (found.counts, found.hashes.data)


@pytest.mark.parametrize(
    ("settings", "named", "kept"),
    [
        ({"source": "/home/ann/clients/acme"}, "/home/ann/clients/acme/train.jsonl:7", "acme/train.jsonl:7"),
        ({"train_file": "/home/ann/acme/*.csv"}, "/home/ann/acme/a.csv:7", "a.csv:7"),
        ({"train_file": "/home/ann/*/x-?.csv"}, "/home/ann/acme/x-1.csv:7", "acme/x-1.csv:7"),
        ({"train_file": "~/a.csv"}, f"{Path.home()}/a.csv:7", "a.csv:7"),
        ({"train_file": ["data/a.csv", "more/b.csv"]}, "data/a.csv:7, more/b.csv:2", "a.csv:7, b.csv:2"),
        ({"train_file": "a.csv"}, "a.csv:7", "a.csv:7"),
        ({"source": "starter"}, "starter:7", "starter:7"),
    ],
)
def test_private_folders_are_left_out_of_sentences(settings: dict[str, Any], named: str, kept: str) -> None:
    [line] = inputs_module._without_folders([f"1 row dropped ({named}), as in metadata/x"], DataSpec(**settings))
    assert line == f"1 row dropped ({kept}), as in metadata/x"


def test_the_columns_that_were_taken_are_stored(load: Callable[..., StudyInputs]) -> None:
    stored = load(rows(text="other")).data_file(DataSpec(source="starter"))
    read = DataFile.model_validate_json(stored.model_dump_json())
    assert read.columns == stored.columns
    assert read.columns["train"] == ColumnsTaken("document", ("summary",), ("text",), ("text",))
    assert DataFile.model_validate_json("{}").columns == {}


def test_sensitivity_needs_two_rows_to_compare_and_the_spread_of_the_metric(
    load: Callable[..., StudyInputs], study_of: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = study_of(rows()), study_of(rows(), methods=("zero_shot", "lora"))
    assert load(rows()).sensitivity(one) is None
    assert load_inputs(two).sensitivity(two) is None  # three test documents: too few for any difference
    more = two.model_copy(update={"data": two.data.model_copy(update={"test_share": 0.4})})
    inputs = load_inputs(more)
    by_rouge1, by_mean = (
        inputs.sensitivity(more.model_copy(update={"metric": metric})) for metric in ("rouge1", "rouge2_mean")
    )
    assert by_rouge1 is not None
    assert by_mean is not None
    assert by_mean.smallest_difference < by_rouge1.smallest_difference
    unknown = replace(METRICS["rouge1"], paired_sd=None)
    monkeypatch.setattr(METRICS, "_metrics", {**METRICS, "rouge1": unknown})
    assert inputs.sensitivity(more) is None


def different_rows() -> Rows:
    return [{"document": f"text {n}", "summary": f"summary {n}"} for n in range(30)]


def test_cautions_of_all_checks_are_collected_and_stored(
    study_of: Callable[..., StudySpec], load: Callable[..., StudyInputs], tmp_path: Path
) -> None:
    plain = study_of(different_rows())
    plain = plain.model_copy(update={"data": plain.data.model_copy(update={"test_share": 0.4})})
    assert load_inputs(plain).cautions == ()
    found = load(rows("für die Modelle " * 40))
    starts = (
        "only 3 test documents",
        "all 3 test references are the same",
        "100 % of the test references are",
        "33.3 %",
    )
    assert len(found.cautions) == len(starts)
    for caution, start in zip(found.cautions, starts, strict=True):
        assert caution.startswith(start)
    stored = found.data_file(DataSpec(source="starter"))
    assert (stored.cautions, stored.caution) == (found.cautions[1:], found.coverage.caution)


def test_lengths_are_those_of_the_models_own_tokens(
    load: Callable[..., StudyInputs], study_of: Callable[..., StudySpec]
) -> None:
    assert not any("--max-new-tokens" in caution for caution in load(rows("we show that a small model")).cautions)
    short = {"generate": {"max_new_tokens": 2}}
    [caution] = [one for one in load(rows("we show that a small model"), **short).cautions if "max-new" in one]
    assert "longer than --max-new-tokens 2 (median " in caution


def test_a_file_of_an_earlier_version_has_its_only_caution() -> None:
    assert DataFile(caution="one").all_cautions == ("one",)
    assert DataFile(caution="one", cautions=("two", "one")).all_cautions == ("two", "one")
    assert DataFile().all_cautions == ()


def test_an_unknown_hyperparameter_is_refused_before_the_data_are_read(study_of: Callable[..., StudySpec]) -> None:
    study = study_of(rows(), hyperparameters={"zero_shot": {"rate": 1.0}})
    missing = study.model_copy(update={"data": DataSpec(train_file="missing.jsonl")})
    with pytest.raises(UserError, match="rate"):
        load_inputs(missing)


def test_prompts_without_room_for_a_document_are_refused(study_of: Callable[..., StudySpec]) -> None:
    study = study_of(rows(), prompt=PromptSpec(max_length=8))
    with pytest.raises(UserError, match="--max-length"):
        check_prompts(study, load_inputs(study))


def test_the_shortest_values_of_a_field_are_checked_and_few_are_kept(
    study_of: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_module, "_MOST_PROMPTS_TO_CHECK", 3)
    many = [{**row, "question": f"{at} word" * 2000} for at, row in enumerate(rows())]
    many[17]["question"] = "short"
    study = study_of(many, "Answer {question}")
    dataset = load_inputs(study).dataset
    kept = inputs_module._prompts_to_check(dataset, "Answer {question}")
    assert len(kept) <= 3 * 2 + 2
    assert any(row.fields["question"] == "short" for row in kept)
    assert all(row.document == "" and not row.references for row in kept)
    check_prompts(study, load_inputs(study))
    study = study_of([*many[:17], *many[18:]], "Answer {question}")
    with pytest.raises(UserError, match="--max-length"):
        check_prompts(study, load_inputs(study))


def test_every_column_can_be_named_in_the_instruction(study_of: Callable[..., StudySpec]) -> None:
    for name in ("source.name", "source name", "Überschrift"):
        study = study_of(rows(**{name: "BBC"}), f"Headline of {{{name}}}.")
        check_prompts(study, load_inputs(study))
        with pytest.raises(UserError, match=r"no column .*columns: .*'other'") as caught:
            load_inputs(study_of(rows(other="BBC"), f"Headline of {{{name}}}."))
        assert f"{{{name}}} of the instruction" in str(caught.value)
        assert "write {{ and }} for braces that name no column" in str(caught.value)


def test_the_fields_of_a_wording_are_looked_up_too(study_of: Callable[..., StudySpec]) -> None:
    study = study_of(rows(aspect="aim"), hyperparameters={"zero_shot": {"wording": "{instruction} For {aspect}."}})
    check_prompts(study, load_inputs(study))
    wrong = study_of(rows(aspect="aim"), hyperparameters={"zero_shot": {"wording": "{instruction} For {aspct}."}})
    with pytest.raises(UserError, match=r"\{aspct\}"):
        check_prompts(wrong, load_inputs(wrong))


def test_a_document_row_without_texts_keeps_id_and_group() -> None:
    example = Example(id="a", document="text", references=("short",), group="g", fields={"aspect": "aim"})
    assert document_row(example, True) == Document(
        id="a", group="g", document="text", references=("short",), fields={"aspect": "aim"}
    )
    assert document_row(example, False) == Document(id="a", group="g", document="", references=())


def test_how_a_file_of_another_system_was_read_is_a_caution(study_of: Callable[..., StudySpec], tmp_path: Path) -> None:
    study = study_of(rows())
    ids = [example.id for example in load_inputs(study).dataset.test]
    file = tmp_path / "api.csv"
    file.write_bytes(b"id,text\n" + "".join(f"{identity},caf\u00e9\n" for identity in ids).encode("cp1252"))
    found = load_inputs(study.model_copy(update={"predictions": {"api": str(file)}}))
    assert found.outside["api"] == dict.fromkeys(ids, "caf\u00e9")
    assert any("api.csv: the file is not UTF-8 and was read as Windows-1252" in caution for caution in found.cautions)
