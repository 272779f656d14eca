"""The axes of cost are one list for verdict, report and terminal."""

from pathlib import Path

from support.verdict_study import load, study_folder
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.verdict import summarize


def test_no_two_axes_have_one_name_or_title() -> None:
    assert len({axis.name for axis in COST_AXES}) == len(COST_AXES)
    assert len({axis.title for axis in COST_AXES}) == len(COST_AXES)


def test_only_axes_where_less_is_better_have_a_recommendation() -> None:
    assert {axis.better for axis in COST_AXES if axis.recommended} == {"less"}


def test_the_heading_is_the_title_with_a_capital() -> None:
    assert [axis.heading for axis in COST_AXES[:2]] == ["Training time", "Peak memory"]
    assert [axis.heading.lower() for axis in COST_AXES] == [axis.title for axis in COST_AXES]


def test_every_method_has_a_number_or_a_reason_on_every_axis(tmp_path: Path) -> None:
    for row in summarize(load(study_folder(tmp_path))).rows:
        assert set(row.costs) == {axis.name for axis in COST_AXES}
        for name, cost in row.costs.items():
            assert (cost.value is None) == (cost.reason is not None), name
