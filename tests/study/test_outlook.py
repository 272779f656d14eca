"""What limited times can detect."""

from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, StudySpec
from tuneoff.study.duration import DataSizes
from tuneoff.study.outlook import outlook_line, outlooks

SIZES = DataSizes(
    train_examples=2000, validation_examples=100, validation_documents=100, test_examples=600, test_documents=600
)


def study(**settings: object) -> StudySpec:
    given = {"methods": ("zero_shot", "lora", "full"), "seeds": 3, "trials": 2, "data": DataSpec(source="starter")}
    return StudySpec.model_validate(given | settings)


def speeds(factor: float) -> dict[tuple[str, str], Speed]:
    speed = Speed(start=5 * factor, step=2 * factor, check=0.1 * factor, write=0.5 * factor)
    return {("starter", name): speed for name in ("zero_shot", "lora", "full")}


def test_more_time_detects_smaller_differences() -> None:
    short, hour, night = outlooks(study(), SIZES, speeds(1.0))
    assert (short.budget, hour.budget, night.budget) == ("15m", "1h", "10h")
    assert short.difference is not None and hour.difference is not None and night.difference is not None  # noqa: PT018
    assert short.difference > hour.difference > night.difference
    assert short.seconds <= 900
    assert "--budget 15m: differences of about " in outlook_line(short, "rouge1")


def test_a_machine_that_is_too_slow() -> None:
    short, _, night = outlooks(study(), SIZES, speeds(60.0))
    assert not short.fits
    assert "too short; the smallest study takes about" in outlook_line(short, "rouge1")
    assert night.fits


def test_too_few_documents_for_a_difference() -> None:
    few = DataSizes(train_examples=20, validation_examples=4, validation_documents=4, test_examples=4, test_documents=4)
    [first, *_] = outlooks(study(), few, speeds(0.1))
    assert first.difference is None
    assert "shows no difference (4 test documents" in outlook_line(first, "rouge1")
