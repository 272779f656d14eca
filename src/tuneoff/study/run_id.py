"""The id of a run: a hash of everything that its results depend on."""

import re

from tuneoff import methods
from tuneoff.results.run_record import NUMERICS_VERSION
from tuneoff.spec import RunSpec, json_hash

# The fields of an instruction that every version of these numerics fills in.
_PLAIN_FIELD = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_OTHER_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}")
# Where the data are and how they are read. In a run's id, the hash of what was read replaces these.
LOCATIONS = (
    "source",
    "config",
    "train_file",
    "validation_file",
    "test_file",
    "encoding",
    "summary_lists",
    "repeated_documents",
)


def run_id_of(spec: RunSpec, model_hash: str, data_hash: str, *, numerics: int | None = None) -> str:
    """16 hex digits over the resolved settings, the contents of model and data, and the version of the numerics.

    `numerics`: None is this version. A hyper-parameter that a method was given later counts only if it differs from
    its default, so runs from before keep their ids.
    """
    settings = spec.model_dump(mode="json")
    hyperparameters = settings["method"]["hyperparameters"]
    for key, value in methods.added_later(spec.method.name).items():
        if key in hyperparameters and hyperparameters[key] == value:
            del hyperparameters[key]
    for key in LOCATIONS:
        settings["data"].pop(key, None)
    settings["model"].pop("name")
    settings["model"].pop("revision")
    # Runs keep the ids that they had before there were such settings.
    for key in ("cut_above", "score"):
        if getattr(spec, key) == RunSpec.model_fields[key].default:
            settings.pop(key)
    # Earlier, such braces stayed in the prompt as they were: these runs are not mistaken for those.
    if any(_OTHER_BRACES.search(_PLAIN_FIELD.sub("", text)) for text in _texts_with_fields(spec)):
        settings["prompt"]["fields"] = "any name"
    return json_hash(
        {"spec": settings, "model": model_hash, "data": data_hash, "numerics": numerics or NUMERICS_VERSION}
    )


def _texts_with_fields(spec: RunSpec) -> tuple[str, ...]:
    wording = spec.method.hyperparameters.get("wording")
    return (spec.prompt.instruction, wording) if isinstance(wording, str) else (spec.prompt.instruction,)
