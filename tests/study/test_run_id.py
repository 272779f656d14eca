"""The id of a run: it changes with everything that its results depend on, and with nothing else."""

import pytest

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


def id_of(instruction: str, wording: str = "{instruction}") -> str:
    method = MethodSpec(name="zero_shot", hyperparameters={"wording": wording})
    prompt = PromptSpec(instruction=instruction, cue="Summary:")
    spec = SPEC.model_copy(update={"prompt": prompt, "method": method})
    return run_id_of(spec, "m", "d", numerics=8)  # the version that these ids are of


def test_ids_of_earlier_runs_stay() -> None:
    """The values are those of version 0.1.0 before fields could have any name."""
    assert id_of("Summarize the {aspect}.") == "e926350959817c14"
    assert id_of("A lone } or {") == "91dfff0f5369f984"


@pytest.mark.parametrize(
    ("braces", "earlier", "earlier_in_wording"),
    [
        ("{source.name}", "bcc96db94e9974c7", "b9da86a826477a66"),
        ("{{aspect}}", "6542c547d03b64c3", "03ff381016983e8c"),
        ("{}", "8e6d1b10410b1699", "f1a562a61bc67c9d"),
        ("{{", "5a2d66ba4edbd9fe", "f17528ea0dfedd2d"),
        ("}}", "ec533235ffb8a904", "ba87ad00dc30a702"),
    ],
)
def test_braces_that_earlier_versions_left_in_the_prompt_make_another_run(
    braces: str, earlier: str, earlier_in_wording: str
) -> None:
    assert id_of(f"Say {braces}") != earlier
    assert id_of("Say it.", f"{{instruction}} {braces}") != earlier_in_wording
