"""What the sentences of a verdict call what it compares: methods of a study, or systems with given scores."""

from dataclasses import dataclass

from tuneoff.results.summary import Compared


@dataclass(frozen=True)
class Nouns:
    """Singular nouns, without an article."""

    system: str
    item: str
    """What is scored."""
    group: str
    """What is independent, where that is not each item."""
    seed: str
    training: str
    """What is repeated with another seed."""
    of_groups: str
    """Items and their groups, with places for both numbers."""
    without_scores: str
    """What a system lacks that is not judged."""
    with_scores: str
    """What a system has that is judged."""
    lacks_seed: str
    """What a system did not do with a seed that it lacks."""
    one_seed: str
    """What a single seed means, as sentences."""
    look: str
    """Where to look if nothing was measured, as a sentence with a space before it; empty if there is nothing."""


NOUNS: dict[Compared, Nouns] = {
    "methods": Nouns(
        system="method",
        item="test document",
        group="test document",
        seed="training seed",
        training="training",
        of_groups="{items} test examples of {groups} documents",
        without_scores="no finished, scored run",
        with_scores="have runs",
        lacks_seed="did not finish with",
        one_seed="Only one training seed: this holds for these trained models, not for the methods. Use at least 3 "
        "seeds.",
        look=" Read the outputs and the references in the report.",
    ),
    "systems": Nouns(
        system="system",
        item="item",
        group="group",
        seed="seed",
        training="run",
        of_groups="{items} items of {groups} groups",
        without_scores="no score",
        with_scores="have scores",
        lacks_seed="has no score with",
        one_seed="Only one run of each system: this holds for these systems as they are. If they were trained, how "
        "much another training would differ is unknown: score 3 trainings of each or more (a column `seed`).",
        look="",
    ),
}
