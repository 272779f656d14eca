"""`tuneoff init`: looks at data and writes a commented study file for them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff import data, models
from tuneoff.cli.flags import overrides_of, was_typed
from tuneoff.cli.lists import split_named
from tuneoff.cli.output import say
from tuneoff.data.likely_columns import likely_columns
from tuneoff.errors import RunFailure, UserError
from tuneoff.options import STANDARD_INPUT
from tuneoff.profiling.other_programs import OtherPrograms
from tuneoff.prompts import field_names
from tuneoff.results.json_files import write_text_atomic
from tuneoff.spec import StudySpec
from tuneoff.spec.toml import Override, read_toml
from tuneoff.study import planner
from tuneoff.study.data_checks import columns_line
from tuneoff.study.data_facts import fact_lines
from tuneoff.study.inputs import StudyInputs, check_prompts, load_inputs
from tuneoff.study.kept_speeds import KeptSpeeds, read_kept_speeds, speeds_key
from tuneoff.study.launcher import WHOLE_MACHINE
from tuneoff.study.number_format import decide_number_format
from tuneoff.study.outlook import TIMES, Outlook, outlook_line, outlooks
from tuneoff.study.preflight import check_models
from tuneoff.study.progress import Progress
from tuneoff.study.row_settings import with_rows
from tuneoff.study.speed_probe import SHARE_OF_BUDGET, kept_or_measured
from tuneoff.study.study_draft import draft
from tuneoff.study.study_file import check_largest, check_study
from tuneoff.study.suggestion import Suggestion, suggest
from tuneoff.text import format_duration, plural

_FLAGS = {"train": "train_file", "validation": "validation_file", "test": "test_file"}
_PROBE_SECONDS = SHARE_OF_BUDGET * TIMES[0][1]  # as a study of 15 minutes takes for its probe, which then needs none


@dataclass(frozen=True)
class Written:
    """A study file that was written, and what it is based on."""

    file: Path
    suggestion: Suggestion
    description: str
    outlooks: tuple[Outlook, ...]
    """Empty if no speeds are known."""
    others: OtherPrograms | None
    """What other programs used while the speeds were measured; None if it is not known."""

    @property
    def outlook_lines(self) -> list[str]:
        """What limited times can detect, in words."""
        lines = [outlook_line(each, self.suggestion.study.metric) for each in self.outlooks]
        busy = self.others.sentence() if self.others is not None else None
        return lines if busy is None else [*lines, busy]


def write_first_study(
    files: Sequence[str],
    given: Mapping[str, Any],
    file: Path,
    *,
    methods: tuple[str, ...] = (),
    force: bool = False,
    probe: bool = True,
) -> Written:
    """Look at the data, and write a study of them into `file`. Messages go to stderr.

    `given`: the flags of a study, as typed. Without `probe`, only speeds that were measured before are used. Raises
    `UserError` for what cannot be used, and for a file that is there, unless `force`.
    """
    if file.suffix != ".toml":
        raise UserError(f"--output {file}: the name of a study file ends in .toml")
    if (file.exists() or file.is_symlink()) and not force:
        raise UserError(f"{file}: is there already; --force writes over it, and --output OTHER.toml elsewhere")
    typed = _with_files(files, given)
    overrides = [Override(*entry) for entry in overrides_of(typed)]
    if methods:
        overrides.append(Override(("methods",), methods, "--methods"))
    sourced = read_toml(overrides=overrides)
    check_largest(sourced)
    asked = with_rows(sourced)
    if len(asked.models) > 1:
        raise UserError("tuneoff init: looks at the data with one model; give one --model, and add others to the file")
    set_by_user = {name for name, value in typed.items() if was_typed(value)}
    if methods:
        set_by_user.add("methods")
    asked, guessed = _with_likely_columns(asked)
    dataset = data.load_dataset(asked.data, field_names(asked.prompt.instruction))
    suggestion = suggest(asked, dataset, models.load_tokenizer(asked.models[0]), set_by_user)
    suggestion.why.update(guessed)
    study = check_study(suggestion.study)
    inputs = load_inputs(study)
    check_prompts(study, inputs)
    check_models(study, planner.build_methods(study).values(), inputs.dataset)
    kept = _speeds(study, inputs, probe=probe)
    found = () if kept is None else tuple(outlooks(study, inputs.sizes, kept.speeds))
    written = Written(file, suggestion, inputs.dataset.description, found, None if kept is None else kept.others)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, draft(suggestion, file, written.description, written.outlook_lines))
    for name in guessed:
        say(f"CAUTION: {name} is a guess: {getattr(asked.data, name)!r}; correct it in {file} if it is another")
    for caution in inputs.cautions:
        say(f"CAUTION: {caution}")
    return written


def _with_files(files: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags with the files under those of their splits. A folder or an archive is a source of all splits."""
    typed = dict(given)
    for name in files:
        path = Path(name)
        if name == STANDARD_INPUT:
            raise UserError("tuneoff init -: a study file names its data; store them in a file first")
        if path.is_dir() or path.suffix.lower() == ".zip" or name == "starter":
            if len(files) > 1:
                raise UserError(f"{name}: a folder or an archive holds all the splits; name it alone")
            typed["data"] = name
            continue
        flag = _FLAGS[split_named(name) or "train"] if len(files) > 1 else "train_file"
        typed[flag] = [*(typed.get(flag) or []), name]
    if not any(typed.get(name) for name in ("data", *_FLAGS.values())):
        raise UserError("tuneoff init: no data; name a file, for example tuneoff init emails.csv")
    return typed


def _with_likely_columns(study: StudySpec) -> tuple[StudySpec, dict[str, str]]:
    """The study with columns that no name says, and why each is taken: name of the setting -> a sentence."""
    likely = likely_columns(study.data)
    change, why = {}, {}
    if likely.document is not None:
        change["document_column"] = likely.document
        why["document_column"] = "a guess: the column with the longest texts"
    if likely.summary is not None:
        change["summary_column"] = likely.summary
        reason = "by its name" if likely.by_name else "the only other column with texts of several words that differ"
        why["summary_column"] = f"a guess: {reason}"
    return study.model_copy(update={"data": study.data.model_copy(update=change)}), why


def _speeds(study: StudySpec, inputs: StudyInputs, *, probe: bool) -> KeptSpeeds | None:
    number_format = decide_number_format(study, None, ())
    if probe:
        say(
            f"measuring each method, for at most about {format_duration(_PROBE_SECONDS)} in all; --no-probe leaves it "
            "out"
        )
        with Progress(len(study.methods)) as progress:
            try:
                return kept_or_measured(study, inputs, WHOLE_MACHINE, progress, number_format, _PROBE_SECONDS)
            except RunFailure as error:
                say(f"CAUTION: no estimate, because {error}")
                return None
    return read_kept_speeds(speeds_key(study, inputs.hashes, WHOLE_MACHINE, number_format), _PROBE_SECONDS)


def study_as_text(written: Written) -> str:
    """What was found and suggested, and what to type next."""
    suggestion, study = written.suggestion, written.suggestion.study
    lines = [
        f"data     {written.description}",
        *(f"         {line}" for line in (*suggestion.cleaning, *fact_lines(suggestion.facts))),
        f"columns  {columns_line(suggestion.columns) or 'not known'}",
        f"task     {study.prompt.instruction}",
        f"lengths  prompt and text at most {study.prompt.max_length} tokens, new texts {study.generate.max_new_tokens}",
        f"methods  {', '.join(study.methods)}; {plural(study.seeds, 'seed')}, {plural(study.trials, 'trial')}",
        *(f"         without {name}: {reason}" for name, reason in suggestion.left_out.items()),
    ]
    if written.outlooks:
        lines += [f"detects  {line}" for line in written.outlook_lines]
    else:
        lines.append("detects  not estimated, because no speed was measured; leave out --no-probe for an estimate")
    budget = next((each.budget for each in written.outlooks if each.fits and each.difference is not None), TIMES[0][0])
    return "\n".join([*lines, f"written  {written.file}; next: tuneoff compare {written.file} --budget {budget}"])


def study_as_json(written: Written) -> dict[str, Any]:
    """The same for programs."""
    return {
        "file": str(written.file),
        "data": written.description,
        "facts": dataclasses.asdict(written.suggestion.facts),
        "study": written.suggestion.study.model_dump(mode="json"),
        "why": written.suggestion.why,
        "left_out": written.suggestion.left_out,
        "outlooks": [dataclasses.asdict(each) for each in written.outlooks],
        "other_programs": None if written.others is None else dataclasses.asdict(written.others),
    }
