"""Names of rows: their method, their order, and names of files."""

import re

import pytest

from tuneoff.spec.row_names import ascending, file_name_of, method_of


def test_the_method_precedes_the_settings() -> None:
    assert [method_of(name) for name in ("lora", "lora@r=64", "peft:LOHA@r=8@alpha=16")] == [
        "lora",
        "lora",
        "peft:LOHA",
    ]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("soft_prompt", "soft_prompt"),  # as before there were rows
        ("peft:LOHA", "peft-LOHA"),
        ("lora@r=64", "lora-r-64"),
        ("lora@target_modules=q_proj+v_proj@lora_dropout=0.05", "lora-target_modules-q_proj-v_proj-lora_dropout-0.05"),
        ('zero_shot@wording=../"a" <b>\\', "zero_shot-wording-..-a-b"),
    ],
)
def test_names_of_files_are_plain(row: str, name: str) -> None:
    assert file_name_of(row) == name


def test_names_of_files_are_short() -> None:
    name = file_name_of(f"zero_shot@wording={'long ' * 60}")
    assert len(name) <= 80
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)


def test_rows_ascend_by_their_values() -> None:
    names = ["lora@r=128", "lora@small", "lora", "lora@r=8", "lora@lora_alpha=1"]
    assert sorted(names, key=ascending) == ["lora", "lora@lora_alpha=1", "lora@r=8", "lora@r=128", "lora@small"]
