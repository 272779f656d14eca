"""Few-shot: which training examples are drawn, and how they come back from an artefact."""

import json
from pathlib import Path

import pytest
from method_helpers import TinyModel, examples

from support.tiny_bases import load_tiny
from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.export.formats import SHOTS_FILE
from tuneoff.methods import build
from tuneoff.methods.few_shot import draw_shots

MANY = examples(20)


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    assert draw_shots(MANY, 6, seed=3)[:2] == draw_shots(MANY, 2, seed=3)


def test_the_seed_decides_the_draw() -> None:
    assert draw_shots(MANY, 4, seed=0) == draw_shots(MANY, 4, seed=0)
    drawn = {tuple(shot.id for shot in draw_shots(MANY, 4, seed=seed)) for seed in range(5)}
    assert len(drawn) > 1


def test_no_two_shots_are_of_one_group() -> None:
    rows = [Example(f"{index}", f"text {index}", ("a",), f"group {index % 3}") for index in range(12)]
    for seed in range(5):
        assert len({shot.group for shot in draw_shots(rows, 3, seed)}) == 3
    with pytest.raises(UserError, match=r"few_shot\.shots = 4: the training data has 3 documents"):
        draw_shots(rows, 4, 0)


def test_shots_come_back_from_the_artefact(tiny_model: TinyModel, tmp_path: Path) -> None:
    base, method = load_tiny(tiny_model("llama")), build("few_shot", {"shots": 3})
    adapted = method.adapt(base, MANY, 1)
    assert adapted.details["shots"] == [shot.id for shot in draw_shots(MANY, 3, 1)]
    adapted.save(tmp_path)
    assert method.restore(base, tmp_path).prompting.shots == draw_shots(MANY, 3, 1)
    [shot, *_] = json.loads((tmp_path / SHOTS_FILE).read_text())
    of_strangers: tuple[dict[str, object], ...]
    of_strangers = ({"document": 5}, {"references": []}, {"references": [{"a": 1}]}, {"fields": {"a": 1}}, {"other": 1})
    for content in ("", "{}", "[{}]", "[" * 100_000, *(json.dumps([shot | other]) for other in of_strangers)):
        (tmp_path / SHOTS_FILE).write_text(content)
        with pytest.raises(UserError, match=f"{SHOTS_FILE}: missing or damaged; run few_shot again"):
            method.restore(base, tmp_path)
