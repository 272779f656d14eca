"""Diagnostics: common faults of training that raise no error, looked for in every run of a study.

Each check reads records and outputs and returns a finding if something looks wrong. Findings are warnings; they do
not change the verdict. What a run notices itself (truncated texts, outputs that are empty or do not end) is in its
record.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from tuneoff.methods.rows import known_method
from tuneoff.metrics.registry import METRICS
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import EmbeddingPosition, Record
from tuneoff.results.study_state import DataFile, SearchFile
from tuneoff.results.summary import Finding
from tuneoff.spec.study import METRIC
from tuneoff.text import join_words
from tuneoff.verdict.grouping import grouped
from tuneoff.verdict.outputs import is_constant, is_empty

# Smallest change of the validation loss that counts, nats per token.
_LOSS_TOLERANCE = 0.02
# Fractions of the outputs of a run.
_MANY_OUTPUTS = 0.2
_MANY_COPIES = 0.05
# An outlier among seeds: its distance from the mean of the others, as a share of the scale and in standard deviations.
_OUTLIER_SHARE = 0.01
_OUTLIER_SDS = 6.0
# Virtual tokens at the start of training: their norm over that of the vocabulary, and the cosine to the nearest word.
_LARGEST_NORM_RATIO = 2.0
_SMALLEST_COSINE = 0.5
# Fraction of an output's word pairs that occurred before in the same output.
_REPETITION = 1 / 3


def diagnose(
    runs: Sequence[tuple[Record, RunOutputs]],
    search: SearchFile | None = None,
    data: DataFile | None = None,
    metric: str = METRIC,
) -> list[Finding]:
    """All findings on the final runs of a study, at every fraction of the data, in a fixed order.

    `metric` is the one that the study is judged by.
    """
    finished = [(record, rows) for record, rows in runs if record.status == "finished"]
    found = [finding for record, rows in finished for finding in _check_run(record, rows)]
    of_model = grouped(finished, lambda run: run[0].spec.model.name)
    for (model, fraction), at_fraction in grouped(
        finished, lambda run: (run[0].spec.model.name, run[0].spec.fraction)
    ).items():
        for own in grouped(at_fraction, lambda run: run[0].spec.data.fold).values():
            # Zero-shot needs no run of its own at a smaller fraction: its texts are the same at all of them.
            found += _compare_with_zero_shot(own, _zero_shot_run(own) or _zero_shot_run(of_model[model]), metric)
            found += _compare_seeds(own, fraction, metric)
    return [*_data_cautions(data), *found, *_search_edges(search), *_close_settings(search)]


def _zero_shot_run(runs: Sequence[tuple[Record, RunOutputs]]) -> tuple[Record, RunOutputs] | None:
    return next(((record, rows) for record, rows in runs if record.spec.method.name == "zero_shot"), None)


def _method_at(method: str, fraction: float) -> str:
    return method if fraction == 1 else f"{method} at {100 * fraction:g} % of the data"


def _check_run(record: Record, rows: RunOutputs) -> Iterator[Finding]:
    def finding(check: str, message: str) -> Finding:
        return Finding(check=check, where=record.name, message=message)

    train, validation = record.curve.train, record.curve.validation
    if train:
        if record.details.moved_share == 0 or all(point.grad_norm == 0 for point in train):
            yield finding("no training", "no trained parameter changed: the loss does not depend on them")
        tenth = max(1, len(train) // 10)
        first, last = (fmean(point.loss for point in part) for part in (train[:tenth], train[-tenth:]))
        if len(train) >= 20 and last >= first:
            yield finding("training loss", f"training loss did not fall ({first:.3f} to {last:.3f} nats per token)")
        best = record.curve.best_validation_loss
        if best is not None and validation[-1].loss > best + _LOSS_TOLERANCE:
            yield finding(
                "overfitting",
                f"validation loss rose from {best:.3f} to {validation[-1].loss:.3f} after step "
                f"{record.curve.best_step}; the checkpoint of that step was kept",
            )
    if (message := _check_initial_tokens(record.details.first_place)) is not None:
        yield finding("initial tokens", message)
    if is_empty(rows):
        yield finding("outputs", "every output is empty")
    elif is_constant(rows):
        yield finding("outputs", "every output is one and the same text, whatever the document")
    repeated = sum(share > _REPETITION for share in rows.known("repetition"))
    if repeated > _MANY_OUTPUTS * len(rows):
        yield finding("repetition", f"{100 * repeated / len(rows):.0f} % of the outputs repeat themselves")
    copied = record.details.instruction_share
    if copied is not None and copied > _MANY_COPIES:
        yield finding("instruction", f"{100 * copied:.0f} % of the outputs contain the instruction itself")


def _check_initial_tokens(position: EmbeddingPosition | None) -> str | None:
    """What is wrong with the initial virtual tokens; see `tuneoff.methods.embedding_alignment`."""
    if position is None:
        return None
    ratio, cosine = position.norm_ratio, position.nearest_cosine
    if 1 / _LARGEST_NORM_RATIO <= ratio <= _LARGEST_NORM_RATIO and cosine >= _SMALLEST_COSINE:
        return None
    return (
        f"the virtual tokens start far from the embeddings of the model ({ratio:.2g} times their mean norm, cosine "
        f"{cosine:.2f} to the nearest), so the prompt learns slowly; initialise them from text, without a network"
    )


def _compare_with_zero_shot(
    runs: Sequence[tuple[Record, RunOutputs]], zero_shot: tuple[Record, RunOutputs] | None, metric: str
) -> Iterator[Finding]:
    if zero_shot is None or not len(zero_shot[1]):
        return
    title, _, digits = _title_scale_digits(metric)
    zero, outputs = zero_shot
    for record, rows in runs:
        name = record.spec.method.name
        kind = known_method(name)
        if kind is None or not kind.trains or not len(rows):
            continue
        if rows.repeats(outputs):
            yield Finding(
                check="not used",
                where=record.name,
                message="every output equals that of zero-shot: generation does not use the trained parameters",
            )
            continue
        before, after = zero.curve.best_validation_loss, record.curve.best_validation_loss
        score, zero_score = record.scores.get(metric), zero.scores.get(metric)
        if before is None or after is None or score is None or zero_score is None:
            continue
        if after < before - _LOSS_TOLERANCE and score <= zero_score:
            yield Finding(
                check="loss against score",
                where=record.name,
                message=f"validation loss fell from {before:.3f} (zero-shot) to {after:.3f}, but "
                f"{title} did not rise ({zero_score:.{digits}f} to {score:.{digits}f}): read some outputs",
            )


def _compare_seeds(runs: Sequence[tuple[Record, RunOutputs]], fraction: float, metric: str) -> Iterator[Finding]:
    title, scale, digits = _title_scale_digits(metric)
    for method, records in grouped((record for record, _ in runs), lambda record: record.spec.method.name).items():
        scored = [(value, record) for record in records if (value := record.scores.get(metric)) is not None]
        if len(scored) < 3:
            continue
        for value, record in scored:
            others = [other for other, one in scored if one is not record]
            distance = abs(value - fmean(others))
            if distance > _OUTLIER_SHARE * scale and distance > _OUTLIER_SDS * stdev(others):
                yield Finding(
                    check="seed",
                    where=_method_at(method, fraction),
                    message=f"seed {record.spec.seed} is an outlier: its {title} is {value:.{digits}f}, the mean of "
                    f"the others {fmean(others):.{digits}f}",
                )


def _title_scale_digits(metric: str) -> tuple[str, float, int]:
    """Of a metric; one of a package that is not installed is taken for points."""
    known = METRICS.get(metric)
    return (metric, 100.0, 1) if known is None else (known.title, known.scale or 100.0, known.digits)


def _data_cautions(data: DataFile | None) -> Iterator[Finding]:
    for caution in data.all_cautions if data is not None else ():
        yield Finding(check="data", where="the test data", message=caution)


def _close_settings(search: SearchFile | None) -> Iterator[Finding]:
    for cell in search.cells if search else ():
        if cell.within_noise:
            values = join_words([str(value) for value in cell.within_noise])
            how = "the lower loss in both trainings" if cell.decided_by == "loss" else "the better validation texts"
            yield Finding(
                check="close settings",
                where=_method_at(cell.method, cell.fraction),
                message=f"{cell.hyperparameter} = {values} had losses that another seed could have changed into that "
                f"of {cell.chosen}, which was chosen for {how}",
            )


def _search_edges(search: SearchFile | None) -> Iterator[Finding]:
    for cell in search.cells if search else ():
        if cell.on_edge:
            yield Finding(
                check="search edge",
                where=_method_at(cell.method, cell.fraction),
                message=f"the best {cell.hyperparameter} ({cell.chosen}) is at the edge of the values tried, "
                "including the refinement trial; raise --trials",
            )
