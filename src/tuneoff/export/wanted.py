"""What an export is to be, and why some runs cannot be exported so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from tuneoff import models
from tuneoff.errors import UserError
from tuneoff.export.formats import FORMATS
from tuneoff.export.gguf_model import NumberType, check_architecture
from tuneoff.methods import build
from tuneoff.model_folder import inspect_folder
from tuneoff.prompts import field_names
from tuneoff.results.run_record import Record
from tuneoff.text import join_words

Form = Literal["adapter", "merged", "gguf", "ollama"]
FORMS: tuple[Form, ...] = get_args(Form)
_CARD_OF_RUN = "README.md"


@dataclass(frozen=True)
class Wanted:
    """An export. `numbers` is the type of the matrices in a GGUF file; `fields` are values for the instruction."""

    form: Form
    numbers: NumberType = "f16"
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_gguf(self) -> bool:
        """Whether it contains a GGUF file."""
        return self.form in ("gguf", "ollama")


def check_wanted(record: Record, wanted: Wanted) -> None:
    """Raise `UserError`, with the nearest alternative, if a run cannot be exported so. Reads no weights."""
    spec, kind = record.spec, "none" if record.artefact is None else record.artefact.format
    method = build(spec.method.name, spec.method.hyperparameters)
    if wanted.form == "adapter":
        if kind == "transformers":
            raise UserError(f"--to adapter: {method.name} changes the weights of the model itself; use --to merged")
        if not method.trains:
            raise UserError(
                f"--to adapter: {method.name} trains nothing, its result is the prompt; use --to merged, which writes "
                "the base model and shows the prompt on its card"
            )
        _check_files(record)
        return
    if method.overhead_tokens:
        raise UserError(
            f"--to {wanted.form}: {method.name} trains virtual tokens, which are not weights of the model, so they "
            "cannot be merged into it; use --to adapter, or a run of another method (--method lora)"
        )
    if record.details.merged is False:
        raise UserError(
            f"--to {wanted.form}: PEFT cannot merge an adapter of {method.name} into the weights; use --to adapter"
        )
    if not wanted.has_gguf:
        return
    check_architecture(inspect_folder(models.weights_folder(spec.model)).config)
    if spec.generate.num_beams > 1:
        raise UserError(
            f"--to {wanted.form}: the study wrote its texts with {spec.generate.num_beams} beams, and llama.cpp has no "
            "beam search; use --to merged"
        )
    if wanted.form == "ollama":
        check_fields(spec.prompt.instruction, wanted.fields)


def _check_files(record: Record) -> None:
    """Raise `UserError` unless the artefact consists of the files that its format has: no other one is copied."""
    if record.artefact is None:
        return
    known = FORMATS[record.artefact.format].adapter_files
    for name in record.artefact.files:
        if name not in (*known, _CARD_OF_RUN):
            raise UserError(
                f"--to adapter: the record lists artefact/{name}, and an artefact of the format "
                f"{record.artefact.format} has {join_words(known)}; delete that file, and its name in the record, if "
                "you know what it is"
            )


def check_fields(instruction: str, given: Mapping[str, str]) -> None:
    """Raise `UserError` unless each field of an instruction has a value, as the one prompt of a Modelfile needs."""
    for name in field_names(instruction):
        if name not in given:
            raise UserError(
                f"--to ollama: the instruction contains the field {{{name}}}, and a Modelfile has one prompt for all "
                f"documents; add --field {name}=VALUE"
            )
