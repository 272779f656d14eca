"""The id of a run: a hash of everything that its results depend on."""

from tuneoff import methods
from tuneoff.results.run_record import NUMERICS_VERSION
from tuneoff.spec import RunSpec, json_hash

# The path of a file does not change its content: in a run's id, content hashes replace these.
LOCATIONS = ("source", "config", "train_file", "validation_file", "test_file")


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
        settings["data"].pop(key)
    settings["model"].pop("name")
    settings["model"].pop("revision")
    # Runs keep the ids that they had before there were such settings.
    for key in ("cut_above", "score"):
        if getattr(spec, key) == RunSpec.model_fields[key].default:
            settings.pop(key)
    return json_hash(
        {"spec": settings, "model": model_hash, "data": data_hash, "numerics": numerics or NUMERICS_VERSION}
    )
