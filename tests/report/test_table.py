"""The comparison as cells: what is best, what is missing and why."""

from pathlib import Path

from tuneoff.report.table import build_table, primary_metric
from tuneoff.report.theme import MethodStyles
from tuneoff.results.cost_axes import COST_AXES, Cost
from tuneoff.results.summary import ComparisonRow, Interval

NO_STYLES = MethodStyles([])


def row(name: str, quality: float | None, model: str = "m", **costs: float | str) -> ComparisonRow:
    """A row of a method. A cost that is text is unknown for that reason."""
    return ComparisonRow(
        name=name,
        title=name,
        kind="method",
        model=model,
        scores={"rouge1": Interval(mean=quality)},
        costs={
            axis: Cost(value=None, reason=cost) if isinstance(cost, str) else Cost(value=cost)
            for axis, cost in costs.items()
        },
    )


def test_best_is_per_model_and_a_cost_of_zero_is_not_marked() -> None:
    rows = [
        row("zero_shot", 20.0, train_seconds=0.0, peak_memory_bytes=5e8),
        row("lora", 33.0, train_seconds=90.0, peak_memory_bytes=7e8),
        row("full", 32.0, train_seconds=140.0, peak_memory_bytes=9e8),
        row("lora", 12.0, model="other", train_seconds=1.0),
        row("full", 11.0, model="other", train_seconds=2.0),
    ]
    first, second = build_table(rows, {}, NO_STYLES).blocks
    assert [line.primary.best for line in first.rows] == [False, True, False]
    assert [line.primary.best for line in second.rows] == [True, False]
    assert [line.costs[0].best for line in first.rows] == [False, True, False]
    assert [line.costs[1].best for line in first.rows] == [True, False, False]


def test_without_a_difference_no_score_is_marked_but_costs_are() -> None:
    rows = [row("lora", 33.0, train_seconds=90.0), row("full", 32.0, train_seconds=140.0)]
    (block,) = build_table(rows, {}, NO_STYLES, marks_scores=False).blocks
    assert not any(line.primary.best for line in block.rows)
    assert [line.costs[0].best for line in block.rows] == [True, False]


def test_a_failed_method_is_best_at_nothing_and_equal_numbers_share_the_mark() -> None:
    rows = [
        row("zero_shot", 20.0, train_seconds=0.0),
        row("soft_prompt", None, train_seconds=10.0).model_copy(update={"status": {"diverged": 1}}),
        row("lora", 33.01, train_seconds=90.0),
        row("full", 33.04, train_seconds=140.0),
    ]
    (block,) = build_table(rows, {}, NO_STYLES).blocks
    assert [line.primary.best for line in block.rows] == [False, False, True, True]
    assert [line.costs[0].best for line in block.rows] == [False, False, True, False]
    assert block.rows[1].badges == ("1 of 1 failed",)


def test_runs_that_go_on_are_not_failed() -> None:
    statuses = [
        {"finished": 2, "interrupted": 1},
        {"finished": 1, "running": 1, "diverged": 1, "failed": 1},
        {"finished": 3},
    ]
    rows = [
        row(f"m{index}", 20.0).model_copy(update={"status": status, "seeds": 3, "compared_seeds": 3})
        for index, status in enumerate(statuses)
    ]
    (block,) = build_table(rows, {}, NO_STYLES).blocks
    assert [line.badges for line in block.rows] == [
        ("1 of 3 not finished", "3 seeds"),
        ("2 of 4 failed", "1 of 4 not finished", "3 seeds"),
        ("3 seeds",),
    ]


def test_the_badge_has_the_seeds_that_the_scores_are_means_over() -> None:
    of_seeds = {"seeds": 5, "compared_seeds": 3}
    rows = [row("lora", 20.0).model_copy(update=of_seeds), row("full", 20.0).model_copy(update={"compared_seeds": 0})]
    (block,) = build_table(rows, {}, NO_STYLES).blocks
    assert [line.badges for line in block.rows] == [("3 of 5 seeds compared",), ()]


def test_more_is_better_for_a_speed_and_nothing_for_a_count_of_parameters() -> None:
    rows = [
        row("lora", 30.0, tokens_per_second=900.0, trainable_parameters=10.0),
        row("full", 31.0, tokens_per_second=400.0, trainable_parameters=99.0),
    ]
    table = build_table(rows, {}, NO_STYLES)
    assert [axis.name for axis in table.costs] == ["trainable_parameters", "tokens_per_second"]
    assert [[cell.best for cell in line.costs] for line in table.blocks[0].rows] == [[False, True], [False, False]]


def test_a_missing_cost_points_to_its_reason_once() -> None:
    rows = [row(name, 20.0, energy_joules="no counter") for name in ("lora", "full")]
    table = build_table([*rows, row("zero_shot", 20.0, energy_joules=5.0)], {}, NO_STYLES)
    assert table.footnotes == ["Energy: no counter"]
    assert [line.costs[0].note for line in table.blocks[0].rows] == [1, 1, None]
    assert [line.costs[0].text for line in table.blocks[0].rows] == ["–", "–", "5 J"]
    assert table.unmeasured == ()


def test_a_cost_that_was_never_measured_has_no_column(rich_study: Path) -> None:
    rows = [row(name, 20.0, energy_joules="no counter") for name in ("lora", "full")]
    table = build_table(rows, {}, NO_STYLES)
    assert (table.costs, table.footnotes) == ((), [])
    assert table.unmeasured == ("Energy: no counter",)
    page = (rich_study / "report.html").read_text(encoding="utf-8")
    assert "<p>Not measured. Energy: the machine exposes no RAPL domain.</p>" in page


def test_columns_have_the_titles_of_the_axes(rich_study: Path) -> None:
    page = (rich_study / "report.html").read_text(encoding="utf-8")
    for axis in COST_AXES[:4]:
        assert f">{axis.heading}</th>" in page
    assert COST_AXES[0].heading == "Training time"


def test_the_first_column_is_rouge_1_if_there_is_one() -> None:
    other = ComparisonRow(name="a", title="a", kind="method", scores={"bleu": Interval(mean=1.0)})
    assert primary_metric([other]) == "bleu"
    assert primary_metric([other, row("lora", 1.0)]) == "rouge1"
    assert primary_metric([row("lora", None)]) is None


def test_gains_and_intervals_are_written_with_their_ends() -> None:
    made = row("lora", 33.0).model_copy(update={"gain": Interval(mean=-0.62, low=-2.0, high=0.81)})
    (line,) = build_table([made], {}, NO_STYLES).blocks[0].rows
    assert (line.gain.text, line.gain.detail) == ("−0.6", "−2.0 to +0.9")
    assert line.strip is not None
    assert (line.strip.low, line.strip.high) == (None, None)
