"""`import tuneoff`: anybody's scores."""

from pathlib import Path

import numpy as np
import pandas
import pytest

import tuneoff as to
from support.verdict_study import study_folder
from test_layers import loaded_by

HEAVY = {"torch", "transformers", "peft"}


@pytest.fixture
def frame() -> pandas.DataFrame:
    """Three systems on 60 items, wide."""
    rng = np.random.default_rng(1)
    hardness = rng.normal(50, 10, 60)
    columns = {name: hardness + mean + rng.normal(0, 3, 60) for name, mean in (("a", 0), ("b", 0.2), ("c", 9))}
    return pandas.DataFrame({"id": [f"q{at}" for at in range(60)], **columns})


def test_a_data_frame_is_judged(frame: pandas.DataFrame, tmp_path: Path) -> None:
    found = to.read_scores(frame)
    assert found.verdict.best_set == ("c",)
    assert found.verdict == to.judge(frame)[0]
    assert found.judge(margin=3).margin == 3
    assert found.judge() == found.verdict
    given = to.read_scores(frame, margin=2)
    assert given.judge() == given.verdict
    assert given.judge(lower_is_better=True).margin == 2
    assert found.judge(lower_is_better=True).best_set != ("c",)
    assert found.report(tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert "<td>c</td>" in found._repr_html_()
    assert repr(found) == "ScoredSystems(3 systems, 60 items, 'score')"


def test_long_and_wide_tables_give_one_verdict(frame: pandas.DataFrame) -> None:
    long = frame.melt(id_vars="id", var_name="who", value_name="points")
    [verdict] = to.judge(long, system_column="who", score_column="points")
    assert verdict.pairs == to.judge(frame)[0].pairs
    assert to.judge(frame, systems=["a", "c"])[0].best_set == ("c",)
    with pytest.raises(to.UserError, match="column=: there is no such option; use systems, system_column"):
        to.read_scores(frame, column="x")  # type: ignore[call-arg]


def test_paths_are_read_like_on_the_command_line(frame: pandas.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "all.csv", index=False)
    pairs = to.read_scores(frame).verdict.pairs
    assert to.read_scores(tmp_path / "all.csv").verdict.pairs == pairs
    assert to.judge(str(tmp_path / "all.csv"))[0].pairs == pairs
    for name in "abc":
        frame[["id", name]].rename(columns={name: "score"}).to_csv(tmp_path / f"{name}.csv", index=False)
    assert to.read_scores([tmp_path / f"{name}.csv" for name in "abc"]).verdict.pairs == pairs
    named = to.read_scores({f"my {name}": tmp_path / f"{name}.csv" for name in "abc"})
    assert named.data.systems == ("my a", "my b", "my c")


def test_a_study_takes_no_columns(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    with pytest.raises(to.UserError, match="are for scores, and this is a study"):
        to.judge(study, item_column="id")
    with pytest.raises(to.UserError, match="nothing"):
        to.judge(tmp_path / "nothing")


def test_judging_scores_loads_no_torch() -> None:
    rows = "[{'model': m, 'id': i, 'score': i + len(m)} for m in ('a', 'bb') for i in range(30)]"
    assert loaded_by(f"import tuneoff as to; to.judge({rows})") & HEAVY == set()
