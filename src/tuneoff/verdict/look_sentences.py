"""The looks of a study that stops when it is settled, in sentences: what was decided when, and what it saved."""

from collections.abc import Iterator, Mapping, Sequence

from tuneoff.results.summary import LookResult, LooksResult, MethodResult
from tuneoff.stats.sequential import ENOUGH_INFORMATION
from tuneoff.text import format_duration, join_words, plural


def too_early_sentence(planned: tuple[int, ...]) -> str:
    """Of a study whose first look is to come."""
    return (
        f"Too early to tell: this study is judged after {planned[0]} seeds first, and runs are missing. Continue it "
        "with the same command."
    )


def look_sentences(
    looks: LooksResult, methods: Sequence[MethodResult], documents: int, level: float
) -> tuple[str, ...]:
    """One sentence for each look, and what all of them together mean. `documents`: of the last look."""
    titles = {one.method: one.title for one in methods}
    lines = [_decided(look, titles, documents, looks.margin) for look in looks.taken]
    return (*lines, *_rest(looks), *_saved(looks), _basis(looks, methods, level))


def decided_at(stopped: Sequence[str], failed: Sequence[str], titles: Mapping[str, str], margin: float) -> str:
    """What a look decided about methods, without why the study ends. `margin` is in points."""
    parts = []
    if stopped:
        is_, gets = ("is", "gets") if len(stopped) == 1 else ("are", "get")
        parts.append(
            f"{_named(stopped, titles)} {is_} shown to lose more than {margin:g} point{'' if margin == 1 else 's'} "
            f"against another method and {gets} no further seeds"
        )
    if failed:
        takes = "takes" if len(failed) == 1 else "take"
        parts.append(f"{_named(failed, titles)} {takes} part no longer, because a training failed")
    return "; ".join(parts) or "no method is shown to lose more than the margin"


def _decided(look: LookResult, titles: Mapping[str, str], documents: int, margin: float) -> str:
    sentence = f"Look after {look.seeds} seeds: {decided_at(look.stopped, look.failed, titles, margin)}"
    if look.end == "settled":
        sentence += ". All is settled, so the study ends"
    elif look.end == "documents":
        narrower = 100 * (1 - ENOUGH_INFORMATION**0.5)
        sentence += (
            f". Further seeds would narrow the intervals by at most {narrower:.0f} %: the "
            f"{plural(documents, 'test document')} are the limit, so the study ends. Use more of them to "
            "see smaller differences"
        )
    elif look.end == "seeds":
        sentence += ". It was the last look"
    elif look.end == "nothing":
        sentence = f"Look after {look.seeds} seeds: no difference can be reported, so the study ends"
    return f"{sentence}."


def _to_come(looks: LooksResult) -> list[int]:
    """Looks that are neither taken nor left out."""
    if looks.taken and looks.taken[-1].end is not None:
        return []
    return [seeds for seeds in looks.planned[len(looks.taken) :] if seeds not in looks.left_out]


def _rest(looks: LooksResult) -> Iterator[str]:
    """The look that is to come, and those that were left out."""
    for seeds in _to_come(looks)[:1]:
        yield f"The look after {seeds} seeds is to come: continue with the same command."
    if looks.left_out:
        which, was, them = ("look", "was", "it") if len(looks.left_out) == 1 else ("looks", "were", "them")
        numbers = _numbers(looks.left_out)
        yield f"The {which} after {numbers} seeds {was} left out: the time limit leaves no time for {them}."


def _saved(looks: LooksResult) -> Iterator[str]:
    fewer = looks.all_runs - looks.runs
    if fewer <= 0 or _to_come(looks):
        return
    percent = 100 * fewer / looks.all_runs
    part = f"{looks.runs} of {plural(looks.all_runs, 'final run')} were carried out (−{percent:.0f} %)"
    if looks.saved_seconds is not None:
        part += f"; the others would have taken about {format_duration(looks.saved_seconds)}"
    yield f"{part}."


def _basis(looks: LooksResult, methods: Sequence[MethodResult], level: float) -> str:
    sentence = (
        f"Looks after {_numbers(looks.planned)} seeds were fixed beforehand, and the intervals of all of them hold at "
        f"once with {100 * level:g} % confidence"
    )
    last = looks.taken[-1]
    early = [one for one in methods if len(looks.taken) > 1 and one.method not in last.methods]
    if early:
        sentence += "; a method that was stopped is compared by the last look that it took part in"
    return f"{sentence}."


def _named(names: Sequence[str], titles: Mapping[str, str]) -> str:
    return join_words([titles.get(name, name) for name in names])


def _numbers(numbers: tuple[int, ...]) -> str:
    return join_words([str(number) for number in numbers])
