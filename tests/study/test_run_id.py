"""The id of a run: it changes with everything that its results depend on, and with nothing else."""

from tuneoff.methods import defaults
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec
from tuneoff.study.run_id import run_id_of

SPEC = RunSpec(
    model=ModelSpec(name="a"),
    prompt=PromptSpec(),
    data=DataSpec(train_file="here/train.jsonl"),
    method=MethodSpec(name="lora", hyperparameters=defaults("lora")),
)


def test_contents_settings_and_numerics_change_it() -> None:
    ids = {
        run_id_of(SPEC, "m", "d"),
        run_id_of(SPEC, "other", "d"),
        run_id_of(SPEC, "m", "other"),
        run_id_of(SPEC, "m", "d", numerics=1),
        run_id_of(SPEC.model_copy(update={"seed": 1}), "m", "d"),
        run_id_of(SPEC.model_copy(update={"fraction": 0.5}), "m", "d"),
    }
    assert len(ids) == 6
    assert all(len(found) == 16 for found in ids)


def test_names_and_paths_do_not() -> None:
    elsewhere = SPEC.model_copy(
        update={"model": ModelSpec(name="b", revision="main"), "data": DataSpec(train_file="there/rows.jsonl")}
    )
    assert run_id_of(elsewhere, "m", "d") == run_id_of(SPEC, "m", "d")
