"""Rows: several settings of one method, each under one name."""

import pytest

from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.methods.rows import in_order, known_method, parse_row, row_of, row_title, typed_row


@pytest.mark.parametrize(
    ("typed", "name", "settings"),
    [
        ("lora", "lora", {}),
        ("soft-prompt", "soft_prompt", {}),
        ("lora@r=64", "lora@r=64", {"r": 64}),
        ("lora@alpha=128@rank=64", "lora@r=64@lora_alpha=128", {"r": 64, "lora_alpha": 128}),
        ("lora@lora-dropout=5e-2", "lora@lora_dropout=0.05", {"lora_dropout": 0.05}),
        (
            "lora@target_modules=q_proj+v_proj",
            "lora@target_modules=q_proj+v_proj",
            {"target_modules": ("q_proj", "v_proj")},
        ),
        ("soft_prompt@keep_instruction=false", "soft_prompt@keep_instruction=false", {"keep_instruction": False}),
        ("zero_shot@wording=Sum up: {instruction}", "zero_shot@wording=Sum up: {instruction}",
         {"wording": "Sum up: {instruction}"}),
        ("lora@learning_rate=0.0012345678", "lora@learning_rate=0.0012345678", {"learning_rate": 0.0012345678}),
        ("lora@small", "lora@small", {}),
    ],
)  # fmt: skip
def test_a_row_has_one_name_from_which_it_is_read_again(typed: str, name: str, settings: dict[str, object]) -> None:
    row = parse_row(typed)
    assert (row.name, dict(row.settings)) == (name, settings)
    assert row == parse_row(row.name)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("lorra@r=64", "unknown method 'lorra': did you mean lora?"),
        ("lora@rr=64", "lora@rr=64: lora has no setting 'rr'; did you mean `r`?"),
        ("lora@r=0", "lora.r = 0: must be a whole number from 1 to 65536"),
        ("lora@r=many", "lora.r = 'many': expected a whole number"),
        ("lora@r=8@rank=16", "lora@r=8@rank=16: sets r twice"),
        ("lora@", "lora@: a setting has the form lora@NAME=VALUE, for example lora@r=16"),
        ("lora@r=", "a setting has the form lora@NAME=VALUE"),
        ("lora@small@r=8", "a setting has the form lora@NAME=VALUE"),
        ("lora@my small one", "a setting has the form lora@NAME=VALUE"),
        ("lora@../../x", "a setting has the form lora@NAME=VALUE"),
        (f"zero_shot@wording={'x' * 100}", "so these settings need a name of their own: write zero_shot@NAME among"),
        ("zero_shot@wording=one\ntwo", "zero_shot: a value holds @ or a line end, so"),
    ],
)
def test_what_names_no_row(typed: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_row(typed)
    assert words in str(caught.value)


def test_settings_that_no_name_can_hold() -> None:
    with pytest.raises(UserError, match="a value holds @ or a line end"):
        row_of("zero_shot", {"wording": "Write to me@example.org"})


def test_titles_tell_the_rows_of_a_method_apart() -> None:
    assert row_title("lora") == METHODS["lora"].title == "LoRA"
    assert row_title("lora@r=64@lora_alpha=128") == "LoRA r=64 lora_alpha=128"
    assert row_title("lora@small") == "LoRA small"
    assert row_title("peft:LOHA@r=8") == "peft:LOHA r=8"  # without PEFT, which an old study needs not


def test_rows_follow_their_method() -> None:
    names = ["full", "peft:LOHA", "lora@r=128", "lora@r=8", "dora", "zero_shot", "lora"]
    assert sorted(names, key=in_order) == ["zero_shot", "lora", "lora@r=8", "lora@r=128", "dora", "full", "peft:LOHA"]
    assert known_method("lora@r=8") is METHODS["lora"]
    assert known_method("a-system") is None


def test_a_typed_name_selects_the_row() -> None:
    assert typed_row("soft-prompt") == "soft_prompt"
    assert typed_row("lora@alpha=8@r=4") == "lora@r=4@lora_alpha=8"
    assert typed_row("no_such") == "no_such"  # of a study whose package is not installed
