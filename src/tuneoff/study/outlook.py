"""What a study could detect in 15 minutes, an hour and a night on this machine, from the speed of each method. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from tuneoff.metrics import METRICS
from tuneoff.spec import StudySpec
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.study.allocation import Size, size_of, smallest_difference
from tuneoff.study.budget import fit
from tuneoff.study.budget_keeper import time_for_runs
from tuneoff.study.duration import DataSizes, Speeds
from tuneoff.text import format_duration, plural

TIMES = (("15m", 900.0), ("1h", 3600.0), ("10h", 36_000.0))


@dataclass(frozen=True)
class Outlook:
    """A study in a limited time. `difference` is in points of its metric; None if no difference would be reported."""

    budget: str
    """As `--budget` takes it."""
    seconds: float
    """That the study takes in it."""
    fits: bool
    size: Size
    difference: float | None


def outlooks(study: StudySpec, sizes: DataSizes, speeds: Speeds) -> Iterator[Outlook]:
    """One for each of the times."""
    metric = METRICS.get(study.metric)
    for budget, seconds in TIMES:
        fitted = fit(study, sizes, speeds, time_for_runs(seconds))
        size = size_of(fitted.study, sizes)
        known = metric is not None and metric.paired_sd is not None and size.documents >= FEWEST_GROUPS
        difference = smallest_difference(study, size.documents, size.seeds) if known else None
        yield Outlook(budget, fitted.seconds, fitted.fits, size, difference)


def outlook_line(outlook: Outlook, metric_name: str) -> str:
    """An outlook in words."""
    size = outlook.size
    effort = f"{plural(size.documents, 'test document')}, {plural(size.seeds, 'seed')}, {plural(size.steps, 'step')}"
    if not outlook.fits:
        return (
            f"--budget {outlook.budget}: too short; the smallest study takes about {format_duration(outlook.seconds)}"
        )
    if outlook.difference is None:
        return f"--budget {outlook.budget}: shows no difference ({effort})"
    metric = METRICS[metric_name]
    return (
        f"--budget {outlook.budget}: differences of about {outlook.difference:.{metric.digits}f} {metric.unit} of "
        f"{metric.title} or more ({effort}, about {format_duration(outlook.seconds)})"
    )
