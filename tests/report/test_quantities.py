import pytest

from tuneoff.report import formatting


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
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (49_000, "49.0 kB"), (999_900, "1.00 MB"), (538e6, "538 MB"), (2.61e9, "2.61 GB")],
)
def test_size(value: float, text: str) -> None:
    assert formatting.size(value) == text


def test_count_is_in_full_until_it_is_long() -> None:
    assert formatting.count(11_520) == "11,520"
    assert formatting.count(4_884_480) == "4.88 M"
    assert formatting.count(134_515_008) == "135 M"


def test_a_score_that_does_not_exist_is_a_dash_and_never_zero() -> None:
    assert formatting.score("rouge1", None) == formatting.MISSING
    assert formatting.score("rouge1", float("nan")) == formatting.MISSING
    assert formatting.score("rouge1", 0.0) == "0.0"


def test_signed_scores() -> None:
    assert formatting.score("rouge1", 14.42, signed=True) == "+14.4"
    assert formatting.score("rouge1", -0.61, signed=True) == "−0.6"
    assert formatting.score("rouge1", -0.04, signed=True) == "0.0"


def test_an_unknown_metric_has_a_name_for_people() -> None:
    assert formatting.title("rougeL") == "ROUGE-L"
    assert formatting.title("my_own_score") == "My own score"
