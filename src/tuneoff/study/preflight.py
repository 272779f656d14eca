"""Checks every model of a study against its settings and methods once, before any run, without reading a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff import models
from tuneoff.data import Dataset
from tuneoff.errors import UserError
from tuneoff.prompts import Prompter
from tuneoff.spec import ModelSpec, StudySpec
from tuneoff.study import planner

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_models(study: StudySpec, dataset: Dataset) -> None:
    """Raise `UserError` for a model that could not be loaded, prompted or adapted as the study asks."""
    adapting = planner.build_methods(study).values()
    reserved = max(method.overhead_tokens for method in adapting)
    for spec in study.models:
        skeleton = models.skeleton(spec)
        check_positions(study, spec, skeleton)
        check_token_ids(study, spec, skeleton, models.load_tokenizer(spec), dataset, reserved)
        for method in adapting:
            method.check(skeleton)


def check_positions(study: StudySpec, spec: ModelSpec, model: PreTrainedModel) -> None:
    """Raise `UserError` if a prompt may be longer than the model has positions."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < study.prompt.max_length:
        raise UserError(
            f"--max-length {study.prompt.max_length}: {spec.name} has {positions} positions; "
            f"lower it to --max-length {positions} at most"
        )


def check_token_ids(
    study: StudySpec,
    spec: ModelSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    reserved_tokens: int,
) -> None:
    """Raise `UserError` if a token id of a prompt has no row of the embedding.

    `reserved_tokens` is the room that virtual tokens take of a prompt.
    """
    rows = model.get_input_embeddings().num_embeddings
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"{spec.name}: its tokenizer has {tokenizer.vocab_size} tokens and the model's embedding {rows} rows, so "
            "the two do not belong together; copy the tokenizer's files from the model that it was made from"
        )
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
            f"{spec.name}: a prompt contains token {largest} ({token}), and the model's embedding has {rows} rows; "
            f"resize the embedding to the tokenizer with resize_token_embeddings{way_out}"
        )
