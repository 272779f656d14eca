"""Rows of scores that fit together, and those that contradict one another."""

from collections.abc import Iterable

import pytest

from tuneoff.errors import UserError
from tuneoff.scores.score_data import NO_SEED, ScoreCollector, ScoreData, ScoreRow


def row(system: str, item: str = "1", score: float | None = 1.0, **other: str | None) -> ScoreRow:
    return ScoreRow(system, item, score, place=f"f:{system}{item}", **other)  # type: ignore[arg-type]


def collected(rows: Iterable[ScoreRow]) -> ScoreData:
    collector = ScoreCollector()
    for one in rows:
        collector.add(one)
    return collector.finish(["f"])


def seeds(data: ScoreData) -> set[tuple[str, int]]:
    return set(data.scores["score"])


def test_seeds_that_are_numbers_keep_their_numbers() -> None:
    assert seeds(collected(row("a", seed=seed) for seed in ("7", "42"))) == {("a", 7), ("a", 42)}


def test_seeds_with_other_names_are_numbered_in_order() -> None:
    assert seeds(collected(row("a", seed=seed) for seed in ("y", "x"))) == {("a", 0), ("a", 1)}
    assert len(seeds(collected(row("a", seed=seed) for seed in ("1", "01")))) == 2


def test_a_system_without_seeds_next_to_others_with_some_does_not_vary() -> None:
    data = collected([row("a", seed="3"), row("a", seed="4"), row("base", seed=NO_SEED)])
    assert data.unseeded == {"base"}
    assert seeds(data) == {("a", 3), ("a", 4), ("base", 3)}


def test_without_any_seed_every_system_has_one_run() -> None:
    data = collected([row("a"), row("b", seed=NO_SEED)])
    assert (seeds(data), data.unseeded) == ({("a", 0), ("b", 0)}, frozenset())


def test_a_file_without_seeds_next_to_one_with_seeds_is_refused() -> None:
    with pytest.raises(UserError, match="the scores of b have no seed, but others have"):
        collected([row("a", seed="3"), row("b")])
    with pytest.raises(UserError, match="a has scores with a seed and without one"):
        collected([row("a", seed="3"), row("a", "2", seed=NO_SEED)])


def test_a_second_score_is_refused() -> None:
    with pytest.raises(UserError, match=r"f:a1: a second score of a for item 1; .*--seed-column"):
        collected([row("a"), row("a")])
    assert len(collected([row("a"), row("a", metric="other")]).metrics) == 2


def test_an_item_has_one_group() -> None:
    with pytest.raises(UserError, match="f:b1: item 1 is of group y, but was of group x"):
        collected([row("a", group="x"), row("b", group="y")])


def test_items_with_different_contents_are_left_out_for_all() -> None:
    rows = [row("a", content="p"), row("b", content="q"), row("a", "2", content="r"), row("b", "2", content="r")]
    data = collected(rows)
    assert {key: set(found) for key, found in data.scores["score"].items()} == {("a", 0): {"2"}, ("b", 0): {"2"}}
    [note] = data.notes
    assert note == "1 item left out: the systems have different contents under one id (such as 1)."


def test_scores_that_are_all_missing_are_refused() -> None:
    with pytest.raises(UserError, match="no score in these files"):
        collected([row("a", score=None)])


def test_more_scores_than_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.scores.score_data.MOST_SCORES", 3)
    assert collected(row("a", str(at)) for at in range(3)).systems == ("a",)
    with pytest.raises(UserError, match="f:a3: more than 3 scores; compare fewer systems at once"):
        collected(row("a", str(at)) for at in range(4))
