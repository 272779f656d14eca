"""The paragraph on methods of a paper, written from a study's own records.

What a record does not hold is left out, and what differs between runs is listed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuneoff.models import public_name
from tuneoff.report import formatting
from tuneoff.report.bibliography import ADAMW, ALL_PAIRS, BEST, LOOKS, ROUGE, TUNEOFF, BibEntry, method_entries
from tuneoff.report.chart_data import cost_note
from tuneoff.report.latex import escape_latex
from tuneoff.report.study_charts import compared_runs, method_styles
from tuneoff.report.theme import MethodStyles
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import Summary
from tuneoff.spec import StudySpec
from tuneoff.spec.row_names import MARK
from tuneoff.text import join_words, plural
from tuneoff.verdict.confounds import arithmetic
from tuneoff.verdict.costs import finished_timing_runs

# A version of these can change a number; the others are in the records.
_NAMED_VERSIONS = {"python": "Python", "torch": "PyTorch", "transformers": "transformers", "peft": "PEFT"}
_SPLITS = {"train": "training"}
Part = str | tuple[BibEntry, ...]


@dataclass(frozen=True)
class MethodsText:
    """Sentences of text and citations, in the order of the paragraph."""

    parts: tuple[Part, ...]

    @property
    def entries(self) -> tuple[BibEntry, ...]:
        """What is cited, each entry once, tuneoff first."""
        return tuple(dict.fromkeys(entry for part in self.parts if not isinstance(part, str) for entry in part))

    def as_text(self) -> str:
        """Plain text with authors and years."""
        return "".join(
            part if isinstance(part, str) else f" ({'; '.join(entry.short for entry in part)})" for part in self.parts
        )

    def as_latex(self) -> str:
        r"""LaTeX with `\cite`."""
        return "".join(
            escape_latex_part(part) if isinstance(part, str) else f"~\\cite{{{','.join(entry.key for entry in part)}}}"
            for part in self.parts
        )


def escape_latex_part(text: str) -> str:
    """`escape_latex`, with the blanks at both ends."""
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}{escape_latex(text)}{after}" if text.strip() else text


def methods_text(summary: Summary, study: StoredStudy, spec: StudySpec) -> MethodsText:
    """The paragraph of a study."""
    records = [run.record for run in compared_runs(summary, study) if run.record.status == "finished"]
    titles = {row.name: row.title for row in summary.rows if row.kind == "method"}
    styles = method_styles(summary, study)
    sentences: list[list[Part]] = [
        _compared(spec, records, summary, titles),
        [_data(summary)],
        [_prompt(spec, records)],
        _effort(spec, records, titles),
        [_search(summary, spec, titles)],
        [_seeds(spec)],
        [_decoding(spec)],
        _metric(summary),
        _statistics(summary, spec),
        [_hardware([record for record in study.records if record.status == "finished"])],
        [_costs(study, records, styles)],
        [_differences(summary)],
    ]
    parts: list[Part] = []
    for sentence in sentences:
        if any(part for part in sentence):
            parts += [*([" "] if parts else []), *sentence]
    return MethodsText(tuple(_joined(parts)))


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Neighbouring strings as one; nothing that is empty."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        elif part:
            if text:
                yield text
            yield part
            text = ""
    if text:
        yield text


def _compared(spec: StudySpec, records: Sequence[Record], summary: Summary, titles: Mapping[str, str]) -> list[Part]:
    models = []
    for model in spec.models:
        own = [record for record in records if record.spec.model.name == model.name]
        # Adapters count too, so the smallest total is that of the model itself.
        sizes = [record.total_parameters for record in own if record.total_parameters]
        about = [f"{formatting.format_count(min(sizes))} parameters"] if sizes else []
        about += [f"revision {model.revision}"] if model.revision else []
        models.append(public_name(model) + (f" ({', '.join(about)})" if about else ""))
    parts: list[Part] = [
        f"We compared {plural(len(titles), 'way')} of adapting {join_words(models)} with tuneoff "
        f"{summary.tuneoff_version}",
        (TUNEOFF,),
        ": ",
    ]
    names = list(titles)
    for index, name in enumerate(names):
        between = "" if index == 0 else " and " if index == len(names) - 1 else ", "
        parts += [f"{between}{_in_sentence(titles[name])}", method_entries(name)]
    outside = [row.title for row in summary.rows if row.kind == "outside"]
    return [*parts, f"; further, the outputs of {join_words(outside)}." if outside else "."]


def _in_sentence(title: str) -> str:
    """`Zero-shot` as `zero-shot`; names such as LoRA stay."""
    return title[:1].lower() + title[1:] if title[1:] == title[1:].lower() else title


def _data(summary: Summary) -> str:
    data = summary.data
    counts = join_words([f"{number:,} {_SPLITS.get(split, split)}" for split, number in data.counts.items()])
    if not counts:
        return ""
    name = data.description.partition(": train ")[0]
    groups = next((one.groups for one in summary.verdicts if one.groups != one.documents), None)
    grouped = f" (test examples of one document form a group: {groups:,} groups)" if groups else ""
    content = f"; content hash {data.content_hash}" if data.content_hash else ""
    cleaning = f" Cleaning: {'; '.join(data.cleaning)}." if data.cleaning else ""
    return f"The data ({name}{content}) have {counts} examples{grouped}.{cleaning}"


def _prompt(spec: StudySpec, records: Sequence[Record]) -> str:
    prompt = spec.prompt
    templates = sorted({record.details.template for record in records if record.details.template})
    template = f" in the {join_words(templates)} template" if templates else ""
    cut = max((record.details.train_cut_share or 0.0 for record in records), default=0.0)
    truncated = f" ({100 * cut:.1f} % of the training documents were truncated)" if cut else ""
    return (
        f"The prompt had the instruction “{prompt.instruction}”, the document and the cue “{prompt.cue}”{template}; "
        f"prompt, virtual tokens and target had at most {prompt.max_length:,} tokens{truncated}."
    )


def _effort(spec: StudySpec, records: Sequence[Record], titles: Mapping[str, str]) -> list[Part]:
    trained = [record for record in records if record.curve.steps]
    if not trained:
        return []
    train = spec.train
    steps = _by_method(trained, titles, lambda record: f"{record.curve.steps:,}")
    stopping = f", stopping after {plural(train.patience, 'evaluation')} without a lower one" if train.patience else ""
    return [
        f"Every trained method took {steps} optimiser steps of {train.batch_size} examples with AdamW",
        (ADAMW,),
        f" ({train.schedule} schedule, {100 * train.warmup:g} % warm-up, gradients clipped at a norm of "
        f"{train.max_grad_norm:g}); the checkpoint with the lowest validation loss was used{stopping}.",
    ]


def _by_method(records: Iterable[Record], titles: Mapping[str, str], read: Callable[[Record], str]) -> str:
    """One value, if it is the same for all; else that of each method."""
    found: dict[str, list[str]] = {}
    for record in records:
        value, own = read(record), found.setdefault(record.spec.method.name, [])
        if value not in own:
            own.append(value)
    if len({tuple(values) for values in found.values()}) == 1:
        return " or ".join(next(iter(found.values())))
    return join_words([f"{' or '.join(values)} ({titles.get(name, name)})" for name, values in found.items()])


def _search(summary: Summary, spec: StudySpec, titles: Mapping[str, str]) -> str:
    fixed = [
        f"{titles.get(method, method)} {name.replace('_', ' ')} {formatting.format_setting(value)}"
        for method, values in spec.hyperparameters.items()
        for name, value in values.items()
        if f"{MARK}{name}=" not in method  # the name of the row says it
    ]
    rest = f"; fixed were {join_words(fixed)}" if fixed else ""
    if not spec.trials:
        return f"Hyper-parameters had the defaults of tuneoff{rest}."
    cells = summary.search.cells if summary.search else ()
    models = {model.name: f" on {public_name(model)}" for model in spec.models} if len(spec.models) > 1 else {}
    chosen = [
        f"{formatting.format_setting(cell.chosen)} as {cell.hyperparameter.replace('_', ' ')} of "
        f"{titles.get(cell.method, cell.method)}{models.get(cell.model, '')}"
        for cell in cells
        if cell.fraction == 1 and cell.chosen is not None and isinstance(cell.chosen, int | float)
    ]
    criterion = (
        "validation loss, and validation texts of a second training of the two best"
        if spec.choose_by == "text"
        else "validation loss"
    )
    pruned = " (bad trials were stopped early)" if spec.halving else ""
    found = f", which gave {join_words(chosen)}" if chosen and spec.data.folds is None else ""
    where = "" if spec.data.folds is None else " and in each fold"
    return (
        f"For each method{where}, {plural(spec.trials, 'trial')} and a refinement trial{pruned} chose one "
        f"hyper-parameter by {criterion}{found}{rest}; the others had the defaults of tuneoff."
    )


def _seeds(spec: StudySpec) -> str:
    at_most = "at most " if spec.until_settled else ""
    seeds = f"{at_most}{plural(spec.seeds, 'seed')} (0{f' to {spec.seeds - 1}' if spec.seeds > 1 else ''})"
    fractions = [f"{100 * fraction:g} %" for fraction in spec.fractions]
    amounts = f", on nested {join_words(fractions)} of the training data" if len(fractions) > 1 else ""
    folds = ""
    if spec.data.folds is not None:
        folds = (
            f"In a cross-validation with {spec.data.folds} folds, which keep the texts of one document together, each "
            "document was tested once, by trainings on the other folds (the sizes of training and validation data are "
            "those of the first fold). "
        )
    return f"{folds}Trainings were repeated with {seeds}{amounts}."


def _decoding(spec: StudySpec) -> str:
    generate = spec.generate
    how = f"beam search ({generate.num_beams} beams)" if generate.num_beams > 1 else "greedy decoding"
    return f"Texts were generated by {how} with at most {generate.max_new_tokens:,} new tokens."


def _metric(summary: Summary) -> list[Part]:
    title = formatting.metric_title(summary.primary_metric)
    is_rouge = summary.primary_metric.startswith("rouge")
    signature = f" ({summary.signature})" if is_rouge and summary.signature else ""
    return [f"They were scored by {title}", (ROUGE,) if is_rouge else (), f"{signature}."]


def _statistics(summary: Summary, spec: StudySpec) -> list[Part]:
    verdict = next((one for one in summary.verdicts if one.pairs), None)
    if verdict is None:
        return ["Differences between methods were not tested."]
    level = f"{100 * verdict.level:g} %"
    sources = "test documents and seeds" if verdict.covers_seeds else "test documents (one seed: these trained models)"
    parts: list[Part] = [
        f"All methods were compared on the same {verdict.documents:,} test examples. Intervals of differences "
        f"({level}) cover {sources} and hold for all pairs at once",
        (ALL_PAIRS,),
        "; the methods that may be the best follow from multiple comparisons with the best",
        (BEST,),
    ]
    if verdict.looks:
        numbers = join_words([str(seeds) for seeds in spec.looks])
        parts += [
            f"; the study was judged after {numbers} seeds, and the intervals of all looks hold at once",
            (LOOKS,),
        ]
    return [
        *parts,
        f". Differences of up to {verdict.margin:g} points were taken as irrelevant. Intervals of single means are "
        "bootstrap intervals over groups of test examples with the same document.",
    ]


def _hardware(records: Sequence[Record]) -> str:
    machines = dict.fromkeys(", ".join(words) for record in records if (words := _machine_words(record)) is not None)
    numbers = dict.fromkeys(number for record in records if (number := arithmetic(record)))
    versions = [
        f"{title} {' and '.join(found)}"
        for name, title in _NAMED_VERSIONS.items()
        if (found := dict.fromkeys(filter(None, ((record.provenance.versions or {}).get(name) for record in records))))
    ]
    where = f"Runs were carried out on {' and on '.join(machines)}" if machines else "Runs were carried out"
    how = f" in {join_words(list(numbers))}" if numbers else ""
    what = f" with {join_words(versions)}" if versions else ""
    return f"{where}{how}{what}." if machines or how or what else ""


def _costs(study: StoredStudy, records: Sequence[Record], styles: MethodStyles) -> str:
    note = cost_note(records, finished_timing_runs(study.records), styles)
    return f"With {note}." if note else ""


def _machine_words(record: Record) -> list[str] | None:
    machine = record.provenance.machine
    if machine is None or not (machine.cpu or machine.accelerators):
        return None
    words = [accelerator.name for accelerator in machine.accelerators or ()]
    if machine.cpu:
        cores = machine.usable_cores
        words.append(machine.cpu + (f" ({plural(cores, 'core')})" if cores else ""))
    if machine.memory_bytes:
        words.append(f"{formatting.format_bytes(machine.memory_bytes)} of memory")
    return words


def _differences(summary: Summary) -> str:
    """What could explain differences besides the methods. A paper must not keep it to itself."""
    found = [one.description for one in summary.confounds if one.changes_scores]
    return f"Besides the methods, {'; '.join(found)}." if found else ""
