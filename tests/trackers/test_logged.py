"""What trackers log of a run: measured values only, by the same names."""

from fake_tracked import EVENTS, LOSSES, PREDICTIONS, record

from tuneoff.trackers.logged import point_of, summary_of, table_of


def test_only_steps_validations_and_samples_have_a_point() -> None:
    points = [point for event in EVENTS if (point := point_of(event)) is not None]
    assert [(point.axis, point.at) for point in points] == [
        *(("train/step", number) for number in (1, 2, 3, 3)),
        ("seconds", 4.5),
    ]
    assert [point.values["train/loss"] for point in points[:3]] == LOSSES
    assert points[3].values == {"validation/loss": 2.625, "validation/epoch": 1.0}
    assert points[4].values == {"resources/memory_bytes": 123_456_789, "resources/cpu_cores": 1.75}


def test_a_summary_has_no_value_that_was_not_measured() -> None:
    summary = summary_of(record("lora-s0", "finished"))
    assert (summary["status"], summary["scores/rouge1"], summary["cost/train/wall_seconds"]) == (
        "finished",
        0.3125,
        12.5,
    )
    assert not {"scores/rouge2", "cost/train/energy_joules"} & set(summary)


def test_a_table_has_a_column_for_each_metric() -> None:
    columns, rows = table_of(PREDICTIONS)
    assert columns == ["id", "text", "stopped", "rouge1"]
    assert rows == [["a", "first \U0001f600 text", True, 0.5], ["b", "second", False, None]]
