"""A verdict about systems with given scores speaks of systems and items, not of methods, documents and trainings."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tuneoff.verdict import Scores, decide
from tuneoff.verdict.nouns import NOUNS

OF_A_STUDY = re.compile(r"method|document|train|reference", re.IGNORECASE)


def systems(means: dict[str, float], *, seeds: int = 1, items: int = 200, **other: object) -> Scores:
    rng = np.random.default_rng(5)
    hardness = rng.normal(0, 10, items)
    rows: dict[tuple[str, int], dict[str, float | None]] = {
        (name, seed): {f"i{at}": float(value) for at, value in enumerate(mean + hardness + rng.normal(0, 2, items))}
        for name, mean in means.items()
        for seed in range(seeds)
    }
    return Scores(tuple(means), rows, metric="quality", compared="systems", **other)  # type: ignore[arg-type]


CASES = {
    "one seed": systems({"a": 40, "b": 41, "c": 60}),
    "three seeds": systems({"a": 40, "b": 40.01, "c": 60}, seeds=3),
    "few items": systems({"a": 40, "b": 41}, items=4),
    "one system": systems({"a": 40}),
    "nothing measured": replace(systems({"a": 1, "b": 2}), scores={("a", 0): {"i": 0.0}, ("b", 0): {"i": 0.0}}),
    "missing": replace(systems({"a": 1, "b": 2}), methods=("a", "b", "c")),
    "few groups": systems({"a": 40, "b": 41}, groups={f"i{at}": f"g{at // 40}" for at in range(200)}),
    "groups": systems({"a": 40, "b": 41}, groups={f"i{at}": f"g{at // 2}" for at in range(200)}),
}


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_sentences_about_systems_name_nothing_of_a_study(scores: Scores) -> None:
    verdict = decide(scores, 0.5)
    assert verdict.sentences
    said = [sentence for sentence in verdict.sentences if sentence != NOUNS["systems"].one_seed]
    assert [sentence for sentence in said if OF_A_STUDY.search(sentence)] == []


def test_the_same_sentences_about_a_study_name_its_things() -> None:
    verdict = decide(replace(CASES["one seed"], compared="methods"), 0.5)
    text = " ".join(verdict.sentences)
    assert "3 methods on the same 200 test documents, 1 training seed." in text
    assert NOUNS["methods"].one_seed in verdict.sentences
    about_systems = " ".join(decide(CASES["one seed"], 0.5).sentences)
    assert "3 systems on the same 200 items, 1 seed." in about_systems
    assert NOUNS["systems"].one_seed in about_systems
    assert (
        decide(CASES["few groups"], 0.5).sentences[0].startswith("Too small to tell: 5 groups, 1 seed. Use 10 groups")
    )
    assert "200 items of 100 groups" in " ".join(decide(CASES["groups"], 0.5).sentences)


def test_unequal_items_are_counted_by_system() -> None:
    scores = CASES["one seed"]
    rows = {key: dict(row) for key, row in scores.scores.items()}
    for at in range(3):
        rows["b", 0][f"i{at}"] = None
    del rows["c", 0]["i9"]
    verdict = decide(replace(scores, scores=rows), 0.5)
    assert verdict.documents == 196
    assert (
        "4 of 200 items are excluded: not every run has a score for them. Without a score: b 3, c 1."
        in verdict.sentences
    )


def test_pairs_of_many_systems_are_not_all_written_out() -> None:
    verdict = decide(systems({f"s{at}": 40 + at for at in range(15)}, items=40), 0.5)
    assert len(verdict.pairs) == 105
    about_pairs = [one for one in verdict.sentences if " is better than " in one or "no difference shown" in one]
    assert len(about_pairs) == 14
    assert all("s14" in one for one in about_pairs)
    assert "Not written out: 91 other pairs; --json has the intervals." in verdict.sentences
