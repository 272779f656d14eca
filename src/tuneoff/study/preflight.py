"""Checks every model of a study against its settings and methods once, before any run, without loading a weight."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from tuneoff import model_headers, models
from tuneoff.data import Dataset
from tuneoff.errors import UserError
from tuneoff.finite_weights import check_finite
from tuneoff.methods import Method
from tuneoff.prompts import Prompter
from tuneoff.spec import StudySpec
from tuneoff.study.inspection import InspectedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_headers(study: StudySpec, adapting: Collection[Method]) -> None:
    """Raise `UserError` for what settings, headers and `tokenizer.json` already rule out. Imports no torch."""
    for spec in study.models:
        model = InspectedModel(spec)
        if (folder := model.headers) is None:
            continue
        _check_positions(study, model, model_headers.positions(folder))
        rows, tokens = model_headers.embedding_rows(folder), model_headers.vocabulary_size(folder.path)
        if rows is not None and tokens is not None:
            _check_vocabulary(model, tokens, rows)
        for method in adapting:
            model.check_early(method)
    if study.generate.num_beams > 1:
        for method in adapting:
            if not method.generates_by_beams:
                raise UserError(
                    f"--num-beams {study.generate.num_beams}: {method.name} has no beam search; leave it out"
                )


def check_models(study: StudySpec, adapting: Collection[Method], dataset: Dataset) -> None:
    """Raise `UserError` for a model that could not be loaded, prompted or adapted by these methods of the study."""
    reserved = max(method.overhead_tokens for method in adapting)
    inspected = [InspectedModel(spec) for spec in study.models]
    for model in inspected:
        check_positions(study, model)
        check_token_ids(study, model, models.load_tokenizer(model.spec), dataset, reserved)
    for model in inspected:  # after all that is fast: a model that is not known takes seconds
        model.check_weights()
        check_finite(models.weights_folder(model.spec))
        for method in adapting:
            model.check(method)


def check_positions(study: StudySpec, model: InspectedModel) -> None:
    """Raise `UserError` if a prompt may be longer than the model has positions."""
    _check_positions(study, model, model.positions)


def _check_positions(study: StudySpec, model: InspectedModel, positions: int | None) -> None:
    if positions is not None and positions < study.prompt.max_length:
        raise UserError(
            f"--max-length {study.prompt.max_length}: {model.spec.name} has {positions} positions; "
            f"lower it to --max-length {positions} at most"
        )


def check_token_ids(
    study: StudySpec, model: InspectedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, reserved_tokens: int
) -> None:
    """Raise `UserError` if a token id of a prompt has no row of the embedding.

    `reserved_tokens` is the room that virtual tokens take of a prompt.
    """
    rows = model.embedding_rows
    _check_vocabulary(model, tokenizer.vocab_size, rows)
    prompter = Prompter(
        tokenizer,
        study.prompt,
        max_new_tokens=study.generate.max_new_tokens,
        reserved_tokens=reserved_tokens,
    )
    encoded, _ = prompter.encode(dataset.test[:1], with_target=False)
    largest = max([tokenizer.eos_token_id, *(token for row in encoded for token in row.prompt)])
    if largest >= rows:
        way_out = " or use --template plain" if prompter.template == "chat" else ""
        token = tokenizer.convert_ids_to_tokens(largest)
        raise UserError(
            f"{model.spec.name}: a prompt contains token {largest} ({token}), and the model's embedding has {rows} "
            f"rows; resize the embedding to the tokenizer with resize_token_embeddings{way_out}"
        )


def _check_vocabulary(model: InspectedModel, tokens: int, rows: int) -> None:
    if tokens > rows:
        raise UserError(
            f"{model.spec.name}: its tokenizer has {tokens} tokens and the model's embedding {rows} rows, so the two "
            "do not belong together; copy the tokenizer's files from the model that it was made from"
        )
