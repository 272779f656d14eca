"""The report of given scores: one HTML file with the verdict, the systems and their pairs. It runs no script."""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tuneoff.errors import UserError
from tuneoff.report.formatting import metric_title
from tuneoff.report.table import IntervalStrip, interval_strip, strip_scale
from tuneoff.report.templates import read_resource, security_policy, style_sheet, template_environment
from tuneoff.results.json_files import write_text_atomic
from tuneoff.results.summary import Interval, PairResult, Summary, Verdict
from tuneoff.text import plural
from tuneoff.verdict.rounding import bound_text, interval_decimals, round_outwards, signed
from tuneoff.verdict.sentences import against_best

# Of a comparison of many systems; all are in the JSON.
_MOST_PAIRS = 300


@dataclass(frozen=True)
class _Line:
    """One line of a table: names, numbers as text, the interval as a picture, and what is decided."""

    title: str
    number: str
    interval: str
    strip: IntervalStrip | None
    bound: str
    decision: str


def score_page(summary: Summary) -> str:
    """The page as HTML."""
    [verdict] = summary.verdicts
    style = style_sheet()
    pairs = _pairs(verdict)
    return (
        template_environment()
        .from_string(read_resource("scores.html.j2"))
        .render(
            policy=security_policy([], style),
            style=Markup(style),  # noqa: S704 - our own file
            summary=summary,
            metric=metric_title(verdict.metric),
            sentences=list(verdict.sentences),
            systems=_systems(summary, verdict),
            pairs=pairs[:_MOST_PAIRS],
            left_out=max(0, len(pairs) - _MOST_PAIRS),
            facts=_facts(summary, verdict),
        )
    )


def write_score_page(summary: Summary, path: Path) -> Path:
    """Write the page. Raises `UserError` if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, score_page(summary))
    except OSError as error:
        raise UserError(
            f"{path}: the report cannot be written there ({error.strerror}); choose another file"
        ) from error
    return path


def _systems(summary: Summary, verdict: Verdict) -> list[_Line]:
    scale = strip_scale(summary.rows, verdict.metric)
    scores = {row.name: row.score(verdict.metric) for row in summary.rows}
    decimals = verdict.decimals
    lines = []
    for result in verdict.ranked:
        score = scores.get(result.method, Interval())
        interval = ""
        if score.low is not None and score.high is not None:
            interval = f"{score.low:.{decimals}f} to {score.high:.{decimals}f}"
        bound = "" if result.regret_bound is None else bound_text(result.regret_bound, decimals)
        strip = interval_strip(score, scale, None)
        lines.append(
            _Line(result.title, f"{result.mean:.{decimals}f}", interval, strip, bound, against_best(result, verdict))
        )
    return lines


def _pairs(verdict: Verdict) -> list[_Line]:
    """All pairs, those of the best systems first, each with its better mean first."""
    rank = {result.method: index for index, result in enumerate(verdict.ranked)}
    pairs = [pair if rank[pair.first] < rank[pair.second] else _turned(pair) for pair in verdict.pairs]
    ends = [0.0, *(end for pair in pairs for end in (pair.low, pair.high))]
    scale = (min(ends), max(ends)) if min(ends) < max(ends) else None
    pairs.sort(key=lambda pair: (rank[pair.first], rank[pair.second]))
    return [_pair_line(pair, verdict, scale) for pair in pairs]


def _turned(pair: PairResult) -> PairResult:
    """The second minus the first."""
    decision = {"better": "worse", "worse": "better"}.get(pair.decision, pair.decision)
    changed = {"difference": -pair.difference, "low": -pair.high, "high": -pair.low, "decision": decision}
    return pair.model_copy(update={"first": pair.second, "second": pair.first, **changed})


def _pair_line(pair: PairResult, verdict: Verdict, scale: tuple[float, float] | None) -> _Line:
    titles = {result.method: result.title for result in verdict.methods}
    decimals = interval_decimals(pair.low, pair.high, verdict.margin, verdict.decimals)
    low = round_outwards(pair.low, up=False, decimals=decimals)
    high = round_outwards(pair.high, up=True, decimals=decimals)
    decided = pair.decision
    small = (
        f"{decided}, by less than the margin" if decided == "better" and pair.size == "too small to matter" else decided
    )
    detected = pair.smallest_detectable
    return _Line(
        title=f"{titles[pair.first]} − {titles[pair.second]}",
        number=signed(pair.difference, decimals),
        interval=f"{signed(low, decimals)} to {signed(high, decimals)}",
        strip=interval_strip(Interval(mean=pair.difference, low=pair.low, high=pair.high), scale, 0.0),
        bound="–" if detected is None else bound_text(detected, verdict.decimals),
        decision=small,
    )


def _facts(summary: Summary, verdict: Verdict) -> list[tuple[str, str]]:
    items = f"{verdict.documents:,} of {summary.data.counts.get('test', verdict.documents):,}"
    if verdict.groups != verdict.documents:
        items += f", in {plural(verdict.groups, 'group')}"
    facts = [
        ("Metric", f"{metric_title(verdict.metric)}; {'more' if verdict.higher_is_better else 'less'} is better"),
        ("Items compared", items),
        ("Seeds", ", ".join(map(str, verdict.seeds)) or "none"),
        ("Margin", f"{verdict.margin:g} points"),
        ("Confidence", f"{100 * verdict.level:g} %"),
        ("Files", summary.data.description),
    ]
    return [(term, text) for term, text in facts if text]
