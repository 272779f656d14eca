"""What often goes wrong in tuning without an error, looked for in every run of a study.

Each check reads records and predictions and gives a sentence where something is wrong. They warn; they decide nothing.
What a run notes about itself while it goes on (texts cut, outputs that are empty or never stop) stands in its record.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev

from tuneoff.methods import METHODS
from tuneoff.results.run_record import Prediction, Record
from tuneoff.spec.run import Frozen

# A validation loss this much above its best (in nats a token) is a rise and no flutter.
_RISE = 0.02
# Shares of outputs, and points of ROUGE-1.
_MANY = 0.2
_CLEARLY = 0.5
# Three seeds: the outer one this many times further from the middle than the other two from each other.
_APART = 6.0
# A virtual token this much longer or shorter than the vocabulary's, or this far from the direction of any, is off.
_LONGER = 2.0
_ALIKE = 0.5
# A third of an output's word pairs were there before in the same output.
_REPEATED = 1 / 3


class Finding(Frozen):
    """Something to look at. `where` is a run's name, or a method's."""

    check: str
    where: str
    words: str


Rows = Sequence[Prediction]


def examine(
    runs: Sequence[tuple[Record, Rows]],
    search: Mapping[str, object] | None = None,
    about: Mapping[str, object] | None = None,
) -> list[Finding]:
    """All findings on the final runs of one study at every share of the data, in a fixed order. `search` and `about`:
    its `search.json` and `data.json`. Pure."""
    finished = [(record, rows) for record, rows in runs if record.status == "finished"]
    found = [finding for record, rows in finished for finding in _of_run(record, rows)]
    for model, share in dict.fromkeys((record.spec.model.name, record.spec.fraction) for record, _ in finished):
        own = [(record, rows) for record, rows in finished if record.spec.model.name == model]
        here = [(record, rows) for record, rows in own if record.spec.fraction == share]
        found += _against_zero_shot(here, _zero_shot(here) or _zero_shot(own))
        found += _seeds(here, share)
    return [*_unread(about or {}), *found, *_edges(search)]


def _zero_shot(runs: Sequence[tuple[Record, Rows]]) -> tuple[Record, Rows] | None:
    """On a share that has none of its own, zero-shot writes what it writes on all the data."""
    return next(((record, rows) for record, rows in runs if record.spec.method.name == "zero_shot"), None)


def _place(method: str, share: float) -> str:
    return method if share == 1 else f"{method} at {100 * share:g} % of the data"


def _of_run(record: Record, rows: Rows) -> Iterator[Finding]:
    def finding(check: str, words: str) -> Finding:
        return Finding(check=check, where=record.name, words=words)

    train, validation = record.curve.train, record.curve.validation
    if train:
        if record.details.get("moved_share") == 0 or all(point.grad_norm == 0 for point in train):
            yield finding("moved", "no trained number has moved: the method does not reach the loss")
        tenth = max(1, len(train) // 10)
        first, last = (fmean(point.loss for point in part) for part in (train[:tenth], train[-tenth:]))
        if len(train) >= 20 and last >= first:
            yield finding("loss", f"the training loss did not fall ({first:.3f} to {last:.3f} nats a token)")
        best = record.curve.best_validation_loss
        if best is not None and validation[-1].loss > best + _RISE:
            yield finding(
                "overfitting",
                f"validation loss rose from {best:.3f} to {validation[-1].loss:.3f} after its best step "
                f"{record.curve.best_step}; the best checkpoint was kept",
            )
    if (words := _off_manifold(record.details.get("first_place"))) is not None:
        yield finding("manifold", words)
    repeated = [row for row in rows if (row.scores.get("repetition") or 0) > _REPEATED]
    if rows and len(repeated) > _MANY * len(rows):
        yield finding("repetition", f"{100 * len(repeated) / len(rows):.0f} % of the outputs repeat themselves")
    copied = record.details.get("instruction_share")
    if isinstance(copied, float) and copied > _MANY / 4:
        yield finding("instruction", f"{100 * copied:.0f} % of the outputs hold the instruction itself")


def _off_manifold(place: object) -> str | None:
    """What is wrong with the embeddings where virtual tokens start; see `tuneoff.methods.embedding_alignment`."""
    if not isinstance(place, Mapping):
        return None
    ratio, cosine = (place.get(name) for name in ("norm_ratio", "nearest_cosine"))
    if not (isinstance(ratio, float) and isinstance(cosine, float)):
        return None
    if 1 / _LONGER <= ratio <= _LONGER and cosine >= _ALIKE:
        return None
    return (
        f"the virtual tokens start away from the model's own embeddings ({ratio:.2g} times their mean norm, cosine "
        f"{cosine:.2f} to the nearest): such a prompt learns slowly; start from text, without a network"
    )


def _against_zero_shot(runs: Sequence[tuple[Record, Rows]], anchor: tuple[Record, Rows] | None) -> Iterator[Finding]:
    if anchor is None or not anchor[1]:
        return
    zero, texts = anchor[0], {row.id: _written(row) for row in anchor[1]}
    for record, rows in runs:
        name = record.spec.method.name
        if name not in METHODS or not METHODS[name].trains or not rows:
            continue
        if all(texts.get(row.id) == _written(row) for row in rows):
            yield Finding(
                check="live",
                where=record.name,
                words="every output is that of zero-shot: what was trained is not used in writing",
            )
            continue
        before, after = zero.curve.best_validation_loss, record.curve.best_validation_loss
        rouge, anchor_rouge = record.scores.get("rouge1"), zero.scores.get("rouge1")
        if None in (before, after, rouge, anchor_rouge):
            continue
        assert before is not None
        assert after is not None
        assert rouge is not None
        assert anchor_rouge is not None
        if after < before - _RISE and rouge <= anchor_rouge:
            yield Finding(
                check="loss against ROUGE",
                where=record.name,
                words=f"validation loss fell from {before:.3f} (zero-shot) to {after:.3f}, and ROUGE-1 did not rise "
                f"({anchor_rouge:.1f} to {rouge:.1f}): read some outputs",
            )


def _written(row: Prediction) -> object:
    """The text; without texts what is known of it."""
    return row.text or (row.tokens, tuple(sorted((name, value) for name, value in row.scores.items())))


def _seeds(runs: Sequence[tuple[Record, Rows]], share: float) -> Iterator[Finding]:
    by_method: dict[str, list[Record]] = {}
    for record, _ in runs:
        by_method.setdefault(record.spec.method.name, []).append(record)
    for method, records in by_method.items():
        scored = [(record.scores["rouge1"], record) for record in records if record.scores.get("rouge1") is not None]
        if len(scored) < 3:
            continue
        for value, record in scored:
            others = [other for other, one in scored if one is not record]
            far = abs(float(value or 0) - fmean(float(other or 0) for other in others))
            spread = stdev(float(other or 0) for other in others)
            if far > 2 * _CLEARLY and far > _APART * spread:
                yield Finding(
                    check="seed",
                    where=_place(method, share),
                    words=f"seed {record.spec.seed} stands apart: {value:.1f} against "
                    f"{fmean(float(other or 0) for other in others):.1f} of the others",
                )


def _unread(about: Mapping[str, object]) -> Iterator[Finding]:
    if isinstance(caution := about.get("caution"), str):
        yield Finding(check="words", where="the test data", words=caution)


def _edges(search: Mapping[str, object] | None) -> Iterator[Finding]:
    cells = search.get("cells") if search else None
    for cell in cells if isinstance(cells, list) else []:
        if cell.get("on_edge"):
            yield Finding(
                check="edge",
                where=_place(str(cell["method"]), cell.get("fraction", 1)),
                words=f"the best {cell['hyperparameter']} ({cell['chosen']}) is the outermost that was tried, "
                f"the reserve trial included; raise --trials",
            )
