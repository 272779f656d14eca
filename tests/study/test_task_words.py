"""The cue, the first text of soft prompts and the wordings follow the instruction; what is set stays as it is."""

from pathlib import Path

import pytest

from tuneoff.methods import METHODS, build, defaults
from tuneoff.methods.zero_shot import WORDINGS, WORDINGS_FOR_OTHER_TASKS
from tuneoff.prompts import apply_wording
from tuneoff.spec import DataSpec, PromptSpec, StudySpec
from tuneoff.spec.task import task_of
from tuneoff.spec.toml import Override
from tuneoff.study import planner, search
from tuneoff.study.compatibility import differences
from tuneoff.study.planner import ContentHashes
from tuneoff.study.study_file import check_study, parse_setting, read_study
from tuneoff.study.task_words import as_begun

SUBJECT = "Write the subject line of this {kind} email."
TEXT = "Write the subject line of this kind email."
ASKS_FOR_SUMMARIES = "Summarize the following text in one sentence."


def typed(instruction: str, **flags: str) -> list[Override]:
    given = {"instruction": instruction, **flags}
    texts = [Override(("prompt", name), value, f"--{name}") for name, value in given.items()]
    return [Override(("data", "train_file"), "rows.jsonl", "--train-file"), *texts]


def in_python(instruction: str, **study: object) -> StudySpec:
    plain = {"data": {"train_file": "rows.jsonl"}, "prompt": {"instruction": instruction}, **study}
    return StudySpec.model_validate(plain)


def from_toml(folder: Path, instruction: str) -> StudySpec:
    file = folder / "study.toml"
    file.write_text(f'[data]\ntrain_file = "rows.jsonl"\n[prompt]\ninstruction = "{instruction}"\n')
    return read_study(file)


def prompts_of(study: StudySpec) -> dict[str, object]:
    """First texts by method, as the runs get them."""
    return {
        run.spec.method.name: run.spec.method.hyperparameters["initial_prompt"]
        for run in planner.plan(study, ContentHashes("d", {"starter": "m"}), {}).runs
        if "initial_prompt" in run.spec.method.hyperparameters
    }


@pytest.mark.parametrize("instruction", [ASKS_FOR_SUMMARIES, "Sum up the {aspect}.", "Schreibe eine Zusammenfassung."])
def test_words_for_summaries_stay_as_they_were(tmp_path: Path, instruction: str) -> None:
    for study in (
        read_study(overrides=typed(instruction)),
        from_toml(tmp_path, instruction),
        check_study(in_python(instruction)),
    ):
        assert (study.prompt.cue, study.task, study.hyperparameters) == ("Summary:", "summary", {})
        assert prompts_of(study) == {"soft_prompt": ASKS_FOR_SUMMARIES}


def test_words_for_other_tasks_follow_the_instruction(tmp_path: Path) -> None:
    for study in (
        read_study(overrides=typed(SUBJECT)),
        from_toml(tmp_path, SUBJECT),
        check_study(in_python(SUBJECT)),
    ):
        assert (study.prompt.cue, study.task) == ("Answer:", "other")
        assert study.hyperparameters == {"soft_prompt": {"initial_prompt": TEXT}}
        assert prompts_of(study) == {"soft_prompt": TEXT}
        assert check_study(study) == study
        assert check_study(StudySpec.model_validate_json(study.model_dump_json())) == study


def test_every_method_that_starts_from_a_text_starts_from_the_instruction() -> None:
    """Also a method that is added later: no default of any method asks for summaries in another task."""
    study = check_study(in_python(SUBJECT, methods=tuple(METHODS)))
    for name in METHODS:
        values = build(name, study.hyperparameters.get(name, {})).hyperparameters
        assert not any(isinstance(value, str) and task_of(value) == "summary" for value in values.values() if value)


def test_what_is_set_stays() -> None:
    setting = parse_setting("soft_prompt.initial_prompt=Headline")
    study = read_study(overrides=[*typed(SUBJECT, cue="Summary:"), setting])
    assert study.prompt.cue == "Summary:"
    assert prompts_of(study) == {"soft_prompt": "Headline"}
    assert read_study(overrides=typed(SUBJECT, cue="")).prompt.cue == ""
    assert (
        check_study(in_python(SUBJECT, prompt=PromptSpec(instruction=SUBJECT, cue="Subject:"))).prompt.cue == "Subject:"
    )
    other = read_study(overrides=[*typed(ASKS_FOR_SUMMARIES), Override(("task",), "other", "task")])
    assert (other.prompt.cue, prompts_of(other)) == ("Answer:", {"soft_prompt": ASKS_FOR_SUMMARIES})
    summary = read_study(overrides=[*typed(SUBJECT), Override(("task",), "summary", "task")])
    assert (summary.prompt.cue, prompts_of(summary)) == ("Summary:", {"soft_prompt": ASKS_FOR_SUMMARIES})


def test_wordings_of_other_tasks_name_no_summary() -> None:
    assert len(WORDINGS) == len(WORDINGS_FOR_OTHER_TASKS) == len(set(WORDINGS_FOR_OTHER_TASKS))
    for wording in WORDINGS_FOR_OTHER_TASKS:
        words = wording.replace("{instruction}", "")
        assert "{" not in words
        assert not words.strip() or task_of(words) == "other"
    assert search.grid("zero_shot", "wording", 3) == WORDINGS[:3]
    assert search.grid("zero_shot", "wording", 3, "other") == WORDINGS_FOR_OTHER_TASKS[:3]
    study = check_study(in_python(SUBJECT, methods=("zero_shot",), trials=7))
    runs = planner.plan(study, ContentHashes("d", {"starter": "m"}), {}).runs
    assert [run.spec.method.hyperparameters["wording"] for run in runs] == list(WORDINGS_FOR_OTHER_TASKS[:7])
    refined = search.refinement_value("zero_shot", "wording", [search.Trial("", 1.0)] * 7, "other")
    assert refined[0] == WORDINGS_FOR_OTHER_TASKS[7]


def test_a_study_from_before_is_continued_with_its_own_words() -> None:
    """A folder from before has no task in its study.json, and its run ids are those of "Summary:"."""
    methods = ("zero_shot", "soft_prompt")
    earlier = in_python(SUBJECT, methods=methods, prompt={"instruction": SUBJECT, "cue": "Summary:"})
    stored = StudySpec.model_validate_json(earlier.model_dump_json(exclude={"task"}))
    now = check_study(in_python(SUBJECT, methods=methods))
    assert differences(stored, now)
    continued = as_begun(now, stored)
    assert differences(stored, continued) == []
    hashes = ContentHashes("d", {"starter": "m"})
    ids = [[run.run_id for run in planner.plan(study, hashes, {}).runs] for study in (stored, continued)]
    assert ids[0] == ids[1]


def test_another_folder_changes_no_words() -> None:
    now = check_study(in_python(SUBJECT))
    assert as_begun(now, None) == now
    assert as_begun(now, now) == now
    unrelated = StudySpec(data=DataSpec(source="starter"))
    assert as_begun(now, StudySpec.model_validate_json(unrelated.model_dump_json(exclude={"task"}))) == now


def test_an_instruction_of_fields_alone() -> None:
    study = check_study(in_python("{question}"))
    assert prompts_of(study) == {"soft_prompt": "question"}
    assert apply_wording("{question}", build("zero_shot", defaults("zero_shot")).prompting) == "{question}"
