"""Writes the files of an export: weights, tokenizer, Modelfile. Weights are safetensors or GGUF, never pickles."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.errors import UserError
from tuneoff.export.card_code import Decoding, llama_cpp_code, llama_cpp_text_code, transformers_code
from tuneoff.export.formats import FORMATS, ArtefactFormat
from tuneoff.export.gguf_model import write_gguf
from tuneoff.export.gguf_vocabulary import read_vocabulary
from tuneoff.export.modelfile import modelfile, prompt_around
from tuneoff.export.wanted import Wanted
from tuneoff.model_folder import read_adapter_settings, read_header
from tuneoff.model_weights import quiet_transformers, written_by_libraries
from tuneoff.regular_files import check_filled, check_inside, open_regular

if TYPE_CHECKING:
    from tuneoff.methods import AdaptedModel
    from tuneoff.models import BaseModel
    from tuneoff.prompts import Prompter
    from tuneoff.results.run_dir import StoredRun

MODELFILE = "Modelfile"
_MOST_CONTEXT = 2**31 - 1  # GGUF has no larger number there
_LEAST_CONTEXT = 4096  # of an Ollama model: its documents are not truncated to the tokens of the study
_NAME_SIGNS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ExportCode:
    """Python code that writes texts with an export. `check` is what a check runs, `card` what the card shows."""

    card: str
    check: str


def write_files(
    run: StoredRun, adapted: AdaptedModel, base: BaseModel, prompter: Prompter, wanted: Wanted, name: str, folder: Path
) -> ExportCode:
    """Write an export into an empty folder. `name` becomes part of the name of a GGUF file.

    Raises `UserError` if it turns out that the model cannot be written so.
    """
    spec, texts = run.record.spec, prompter.as_texts()
    dtype = str(base.dtype).removeprefix("torch.")
    decoding = Decoding(
        spec.generate.max_new_tokens, spec.generate.num_beams, tuple(sorted(base.stop_ids)), base.pad_id
    )
    if wanted.form == "adapter":
        assert run.record.artefact is not None
        _write_adapter(run, run.record.artefact.format, adapted, folder)
        with written_by_libraries(f"--to {wanted.form}"):
            base.tokenizer.save_pretrained(folder)
        code = transformers_code(run.record.artefact.format, spec.model, dtype, texts, decoding)
        return ExportCode(code, code)
    adapted.merge()
    if adapted.details.get("merged") is False:
        raise UserError(f"--to {wanted.form}: PEFT cannot merge this adapter into the weights; use --to adapter")
    model = adapted.model
    if wanted.form == "merged":
        with quiet_transformers(), written_by_libraries(f"--to {wanted.form}"):
            model.save_pretrained(folder)
            base.tokenizer.save_pretrained(folder)
        code = transformers_code("transformers", spec.model, dtype, texts, decoding)
        return ExportCode(code, code)
    file = f"{_NAME_SIGNS.sub('-', name).strip('-.') or 'model'}-{wanted.numbers}.gguf"
    with written_by_libraries(f"--to {wanted.form}"):
        context = min(getattr(model.config, "max_position_embeddings", texts.context), _MOST_CONTEXT)
        vocabulary = read_vocabulary(base.tokenizer, model.get_input_embeddings().num_embeddings, base.stop_ids)
        write_gguf(model, vocabulary, folder / file, wanted.numbers, name=name, context=context)
    code = llama_cpp_code(file, texts, decoding, nfc=vocabulary.nfc)
    if wanted.form == "gguf":
        return ExportCode(code, code)
    fields = dict(wanted.fields)
    before, after = prompt_around(texts, fields, nfc=vocabulary.nfc)
    room = min(context, max(_LEAST_CONTEXT, texts.context))
    stops = _stops(base, decoding.stop_ids)
    content = modelfile(file, before, after, stops, context=room, max_new_tokens=decoding.max_new_tokens)
    (folder / MODELFILE).write_text(content, encoding="utf-8", newline="\n")
    return ExportCode(code, llama_cpp_text_code(file, before, after, room, decoding))


def _write_adapter(run: StoredRun, kind: ArtefactFormat, adapted: AdaptedModel, folder: Path) -> None:
    """Write an adapter: the weights as the run has them, and settings that were checked or are made here."""
    if adapted.prefix() is not None and kind == "peft":
        # PEFT makes room for as many virtual tokens as the settings say: they are written from the tensor.
        adapted.save(folder)
        return
    names = FORMATS[kind].adapter_files
    for name in names:
        copy_own_file(run.dir.path, run.dir.artefact / name, folder / name)
    read_header(folder / names[-1])
    if kind == "peft":
        read_adapter_settings(folder)  # their numbers were compared with the weights when they were loaded


def copy_own_file(own: Path, path: Path, target: Path) -> None:
    """Copy a regular file of the folder `own`. Raises `UserError` for one that is elsewhere, by a link, or a hole."""
    check_inside(own, path)
    with open_regular(path) as stream, target.open("wb") as copy:
        check_filled(str(path), stream.fileno())
        shutil.copyfileobj(stream, copy)


def _stops(base: BaseModel, stop_ids: Sequence[int]) -> list[str]:
    texts = (base.tokenizer.decode([index], skip_special_tokens=False) for index in stop_ids)
    return [str(text) for text in texts if str(text).strip()]
