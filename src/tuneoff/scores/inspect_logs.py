"""Logs of inspect_ai: `.eval`, a zip archive, and `.json`.

A repetition of a sample (an epoch) is another draw of the model's answer, independent of those to other samples. The
score of an item is therefore the mean of its repetitions: epochs are not seeds, which all items of a run share.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from tuneoff.data.byte_source import ByteSource, zip_sources
from tuneoff.data.file_kinds import ZIP
from tuneoff.data.json_rows import LARGEST_WHOLE_JSON
from tuneoff.errors import UserError
from tuneoff.scores.numbers import group_of, name_of, score_of
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import ScoreRow
from tuneoff.scores.score_file import ScoreFile
from tuneoff.text import plural

_JSON_LOG = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"version"\s*:\s*\d+\s*,\s*"(?:status|eval)"\s*:')
_SUMMARIES = "summaries.json"
_HEADERS = ("header.json", "_journal/start.json")
# As `value_to_float` of inspect_ai reads the grades of its scorers: correct, partially correct, incorrect, no answer.
# They are capital letters, and small ones are not among them.
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "no": 0.0}


def is_log(file: ScoreFile) -> bool:
    """Whether inspect_ai wrote a file."""
    if file.start.startswith(ZIP):
        return file.path.suffix.lower() == ".eval"
    return file.path.suffix.lower() == ".json" and _JSON_LOG.match(file.start) is not None


def read_log(file: ScoreFile, columns: ScoreColumns) -> Iterator[ScoreRow | str]:
    """The scores of a log: of one task by one model. Raises `UserError` for a damaged log, or one without samples."""
    header, samples = _read_archive(file) if file.start.startswith(ZIP) else _read_json(file)
    about = header.get("eval")
    if not isinstance(about, Mapping):
        raise UserError(f"{file.name}: not a log of inspect_ai, because it has no `eval`; write it again")
    task, model = name_of(about.get("task")), name_of(about.get("model"))
    if not model and file.system is None:
        raise UserError(f"{file.name}: the log names no model; give it a name as NAME={file.name}")
    by_sample: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        by_sample.setdefault(name_of(sample["id"]), []).append(sample)
    scored = {name: _mean_scores(file, name, epochs) for name, epochs in by_sample.items()}
    metrics = dict.fromkeys(metric for scores in scored.values() for metric in scores)
    if not metrics:
        raise UserError(f"{file.name}: no sample of this log has a score; run `inspect score` on it")
    for name, scores in scored.items():
        first = by_sample[name][0]
        for metric in metrics:
            yield ScoreRow(
                system=file.system or model,
                item=f"{task}/{name}",
                score=scores.get(metric),
                place=f"{file.name}, sample {name}",
                metric=metric,
                seed=file.seed,
                group=group_of(first, columns.group),
                content=_digest(first.get("input")),
            )
    status, most = name_of(header.get("status")), max(map(len, by_sample.values()))
    if most > 1:
        yield f"Samples were repeated up to {most} times (epochs); the score of an item is the mean of its repetitions."
    if status not in ("", "success"):
        yield f"The log {file.path.name} has the status {status}, with {plural(len(by_sample), 'sample')}."


def _mean_scores(file: ScoreFile, name: str, epochs: list[Mapping[str, Any]]) -> dict[str, float | None]:
    """Metric -> mean over the repetitions that have a score."""
    found = [_scores(epoch, f"{file.name}, sample {name}") for epoch in epochs]
    means: dict[str, float | None] = {}
    for metric in dict.fromkeys(metric for scores in found for metric in scores):
        known = [value for scores in found if (value := scores.get(metric)) is not None]
        means[metric] = fmean(known) if known else None
    return means


def _digest(value: object) -> str | None:
    if value is None:
        return None
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _scores(sample: Mapping[str, Any], where: str) -> dict[str, float | None]:
    """Metric -> score of a sample; a score of several values has a metric for each: `scorer/value`."""
    found = sample.get("scores")
    values: dict[str, float | None] = {}
    for scorer, score in found.items() if isinstance(found, Mapping) else ():
        value = score.get("value") if isinstance(score, Mapping) else None
        parts = (
            {f"{scorer}/{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {scorer: value}
        )
        for metric, one in parts.items():
            if isinstance(one, list):
                continue
            try:
                values[metric] = _grade_of(one) if isinstance(one, str) else score_of(one)
            except ValueError as error:
                raise UserError(
                    f"{where}: the score {metric!r} is {str(one)[:60]!r}; a number or grade was expected"
                ) from error
    return values


def _grade_of(text: str) -> float | None:
    """Raises `ValueError` for a text that is neither a grade nor a number."""
    found = _GRADES.get(text, _WORDS.get(text.lower()))
    return score_of(text) if found is None else found


def _read_archive(file: ScoreFile) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Header and samples. The summaries have all scores, and none of the transcripts, which can be gigabytes."""
    members = {source.name.removeprefix(f"{file.path}/"): source for source in zip_sources(file.path)}
    header = next((members[name] for name in _HEADERS if name in members), None)
    if header is None:
        raise UserError(f"{file.name}: not a log of inspect_ai, because it has no header.json; write it again")
    if _SUMMARIES in members:
        samples = _load(members[_SUMMARIES])
    else:
        samples = [_load(members[name]) for name in sorted(members) if name.startswith("samples/")]
    return _object(_load(header), header.name), _samples(samples, file.name)


def _read_json(file: ScoreFile) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    header = _object(_load(file.source), file.name)
    return header, _samples(header.get("samples"), file.name)


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{name}: not a log of inspect_ai, because it is not a JSON object; write it again")
    return value


def _samples(value: object, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) and "id" in one for one in value):
        raise UserError(f"{name}: the log has no samples; it may have been written with --no-log-samples")
    return value


def _load(source: ByteSource) -> object:
    with source.text("utf-8", newline=None) as stream:
        text = stream.read(LARGEST_WHOLE_JSON + 1)
    if len(text) > LARGEST_WHOLE_JSON:
        raise UserError(f"{source.name}: more than {LARGEST_WHOLE_JSON / 10**9:g} GB of JSON; write the log as .eval")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{source.name}, line {error.lineno}: not JSON (column {error.colno}: {error.msg}); write the log again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{source.name}: JSON with a number too long or nested too deep; write the log again"
        ) from error
