"""Numbers as text."""

import math

import pytest

from tuneoff.report import formatting
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.summary import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.042, "42 ms"),
        (4.25, "4.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.8, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert formatting.format_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (49_000, "49.0 kB"), (999_900, "1.00 MB"), (538e6, "538 MB"), (2.61e9, "2.61 GB")],
)
def test_size(value: float, text: str) -> None:
    assert formatting.format_bytes(value) == text


def test_count_is_in_full_until_it_is_long() -> None:
    assert formatting.format_count(11_520) == "11,520"
    assert formatting.format_count(4_884_480) == "4.88 M"
    assert formatting.format_count(134_515_008) == "135 M"


def test_a_score_that_does_not_exist_is_a_dash_and_never_zero() -> None:
    assert formatting.format_score("rouge1", None) == formatting.MISSING
    assert formatting.format_score("rouge1", float("nan")) == formatting.MISSING
    assert formatting.format_score("rouge1", 0.0) == "0.0"


def test_signed_scores() -> None:
    assert formatting.format_score("rouge1", 14.42, signed=True) == "+14.4"
    assert formatting.format_score("rouge1", -0.61, signed=True) == "−0.6"
    assert formatting.format_score("rouge1", -0.04, signed=True) == "0.0"


def test_an_unknown_metric_has_a_name_for_people() -> None:
    assert formatting.metric_title("rougeL") == "ROUGE-L"
    assert formatting.metric_title("my_own_score") == "My own score"
    assert formatting.metric_title("BLEU") == "BLEU"
    assert formatting.metric_title("chrF") == "chrF"
    assert formatting.metric_title("") == ""


def test_every_axis_of_cost_has_a_format() -> None:
    assert all(formatting.format_cost(axis.name, 1500.0) for axis in COST_AXES)
    assert formatting.format_cost("energy_joules", None) == formatting.MISSING
    assert formatting.format_cost("energy_joules", 1500.0) == "1.50 kJ"


def test_settings_have_no_syntax_of_a_language() -> None:
    assert formatting.format_setting(("q_proj", "v_proj")) == "q_proj, v_proj"
    settings: list[object] = [True, None, [], 0.5]
    assert list(map(formatting.format_setting, settings)) == ["true", "none", "none", "0.5"]


def test_the_interval_of_a_difference_is_rounded_outwards_and_keeps_its_side_of_zero() -> None:
    def shown(low: float, high: float, *, signed: bool = True) -> str:
        return formatting.format_interval("rouge1", Interval(mean=1.0, low=low, high=high), signed=signed)

    assert shown(0.04, 3.7) == "+0.04 to +3.70"
    assert shown(-3.7, -0.004) == "−3.700 to −0.004"
    assert shown(-0.04, 3.7) == "−0.1 to +3.7"
    assert shown(0.08, 3.7) == "+0.08 to +3.70"
    assert shown(0.04, 3.7, signed=False) == "0.0 to 3.7"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_no_number_is_a_dash(value: float) -> None:
    for axis in COST_AXES:
        assert formatting.format_cost(axis.name, value) == formatting.MISSING
