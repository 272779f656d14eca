"""Runs that shared the machine with others: their times are no costs, and no chart may show them as such in silence."""

from collections.abc import Iterable, Mapping, Sequence

from tuneoff.report.theme import Cast
from tuneoff.results.run_record import Record
from tuneoff.verdict.costs import Place, as_alone, place


def alone(records: Sequence[Record], timing: Mapping[Place, Record]) -> list[Record]:
    """The records with the times that they have alone, as far as their methods were timed."""
    return [as_alone(record, timing.get(place(record))) for record in records]


def of_costs(records: Iterable[Record], timing: Mapping[Place, Record], cast: Cast) -> str | None:
    """What a chart of `alone` records has to say about its times; None when every run was alone."""
    shared = [record for record in records if record.status == "finished" and company(record) > 1]
    if not shared:
        return None
    most = f"up to {max(map(company, shared))} runs shared the machine"
    left = [record for record in shared if place(record) not in timing]
    if not left:
        return f"{most}: time and energy are those of a timing run alone"
    if len(left) == len(shared):
        return f"{most} while time and energy were measured: no costs of a run alone"
    names = ", ".join(dict.fromkeys(cast.of(record).label for record in left))
    return f"{most}: time and energy are those of a timing run alone, but for {names}, measured in company"


def of_clocks(records: Iterable[Record]) -> str | None:
    """What a chart over the seconds of runs has to say; None when every run was alone."""
    most = max(map(company, records), default=1)
    return None if most == 1 else f"as measured while up to {most} runs shared the machine: slower than a run alone"


def company(record: Record) -> int:
    """Runs on the machine while this one was measured, itself included."""
    return record.resources.processes if record.resources else 1
