"""What limits the comparison of training set sizes, in sentences."""

from tuneoff.verdict.size_sentences import size_cautions
from tuneoff.verdict.training_sizes import TrainingSize


def test_unread_examples_and_steps_that_differ_are_named() -> None:
    sizes = {
        0.05: TrainingSize(99, 99, 50),
        0.1: TrainingSize(199, 199, 50),
        0.3: TrainingSize(596, 400, 50),
        1.0: TrainingSize(1988, 800, 100),
    }
    assert size_cautions(sizes) == [
        "Training did not read all examples: 400 of 596 at 30 % and 800 of 1988 at 100 % of the data. Below, the "
        "training set size is the number of examples that were read.",
        "The number of training steps differs: 50 at 5 %, 10 % and 30 % and 100 at 100 % of the data. Differences "
        "between training set sizes may come from the steps.",
    ]


def test_whole_fractions_in_as_many_steps_need_no_caution() -> None:
    assert size_cautions({0.5: TrainingSize(50, 50, 20), 1.0: TrainingSize(100, 100, 20)}) == []
    assert size_cautions({0.5: TrainingSize(50, 50), 1.0: TrainingSize(100, 100)}) == []
