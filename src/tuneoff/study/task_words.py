"""The words around an instruction that follow from its task, where a study sets none itself.

For summaries they are the defaults of the specs. For other tasks the cue is neutral, and what is trained starts from
the words of the instruction instead of from "Summarize the following text in one sentence."
"""

from tuneoff.methods import method_class
from tuneoff.prompts import name_fields
from tuneoff.spec import PromptSpec, StudySpec
from tuneoff.spec.run import Scalar
from tuneoff.spec.task import task_of

NEUTRAL_CUE = "Answer:"


def follow_task(study: StudySpec) -> StudySpec:
    """The study with its task, and with the words that follow from it. What the study sets itself stays."""
    task = study.task if "task" in study.model_fields_set else task_of(study.prompt.instruction)
    if task == "summary":
        return study
    cue = study.prompt.cue if "cue" in study.prompt.model_fields_set else NEUTRAL_CUE
    prompt = study.prompt.model_copy(update={"cue": cue})
    hyperparameters = {**study.hyperparameters}
    for name, texts in _texts_of_task(study).items():
        hyperparameters[name] = {**texts, **study.hyperparameters.get(name, {})}
    return study.model_copy(update={"task": task, "prompt": prompt, "hyperparameters": hyperparameters})


def as_begun(study: StudySpec, earlier: StudySpec | None) -> StudySpec:
    """The study with the words of the folder that it continues, if words did not follow the task when that was begun.

    `earlier` is the study of the folder. Without this, such a study could not be continued.
    """
    if earlier is None or "task" in earlier.model_fields_set or study.task == "summary":
        return study
    cue = PromptSpec().cue if study.prompt.cue == NEUTRAL_CUE else study.prompt.cue
    derived = _texts_of_task(study)
    kept = {
        name: {key: value for key, value in values.items() if derived.get(name, {}).get(key) != value}
        for name, values in study.hyperparameters.items()
    }
    before = study.model_copy(
        update={
            "task": "summary",
            "prompt": study.prompt.model_copy(update={"cue": cue}),
            "hyperparameters": {name: values for name, values in kept.items() if values},
        }
    )
    return before if before.prompt == earlier.prompt else study


def _texts_of_task(study: StudySpec) -> dict[str, dict[str, Scalar]]:
    """Method -> hyper-parameter -> the instruction, for the methods that start from a text."""
    words = name_fields(study.prompt.instruction)
    found: dict[str, dict[str, Scalar]] = {}
    for name in study.methods:
        if (key := method_class(name).task_text) is not None and words.strip():
            found[name] = {key: words}
    return found
