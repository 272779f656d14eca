"""From an example to token ids: template, token budget, target.

A prompt is three pieces: what stands before the document, the document, what stands after it. They are tokenized
apart, so that only the document is ever cut and the ids of a prompt are the same in training and in generation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.spec import PromptSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# In a wording, of the instruction the fields alone that it names; with its colon it is no column's name.
FIELDS_ALONE = "{instruction:fields}"
# Stands for the document while a chat template is rendered; no template or document holds this private-use character.
_SLOT = "\ue000tuneoff\ue000"


@dataclass(frozen=True)
class Encoded:
    """One example as token ids. `target` ends in EOS; it is empty for generation."""

    id: str
    prompt: tuple[int, ...]
    target: tuple[int, ...]
    cut: int  # document tokens that did not fit


@dataclass(frozen=True)
class TooLong:
    """An example whose target leaves no room for its document."""

    id: str
    tokens: int


@dataclass(frozen=True)
class Prompting:
    """What a method changes about prompts: a wording around the instruction, and examples in front of the document."""

    wording: str = "{instruction}"
    shots: tuple[Example, ...] = ()


AS_GIVEN = Prompting()


def worded(instruction: str, prompting: Prompting) -> str:
    """The instruction as a method words it, its `{name}`s not yet filled in."""
    fields = " ".join(dict.fromkeys(match[0] for match in _FIELD.finditer(instruction)))
    parts = {"{instruction}": instruction, FIELDS_ALONE: fields}
    return re.sub(r"\{instruction(:fields)?\}", lambda match: parts[match[0]], prompting.wording)


def fill(instruction: str, fields: Mapping[str, str]) -> str:
    """`instruction` with each `{name}` replaced by the example's field. Raises `UserError` for a field there is not."""

    def value(match: re.Match[str]) -> str:
        try:
            return fields[match[1]]
        except KeyError:
            there = ", ".join(sorted(fields)) or "none"
            raise UserError(
                f"the instruction wants the field {{{match[1]}}}, which the data does not have (fields: {there}); "
                "correct --instruction or add the column"
            ) from None

    return _FIELD.sub(value, instruction)


class Prompter:
    """Turns examples into ids for one tokenizer, one template and one token budget."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        spec: PromptSpec,
        *,
        max_new_tokens: int,
        reserved_tokens: int = 0,
        prompting: Prompting = AS_GIVEN,
        context: int | None = None,
    ) -> None:
        """`reserved_tokens`: virtual tokens of the method of the study that needs the most of them. `context`: the
        positions that the model has; shots may use more of them than max_length.
        """
        self._tokenizer = tokenizer
        self._spec = spec
        self._max_new_tokens = max_new_tokens
        self._room = spec.max_length - reserved_tokens
        has_chat = getattr(tokenizer, "chat_template", None) is not None
        if spec.template == "chat" and not has_chat:
            raise UserError("--template chat: this model's tokenizer has no chat template; use --template plain")
        self.template = ("chat" if has_chat else "plain") if spec.template == "auto" else spec.template
        self._frames: dict[str, tuple[list[int], list[int]]] = {}
        self._instruction = worded(spec.instruction, prompting)
        self._shots = self._encode_shots(prompting.shots)
        if context is not None and len(self._shots) + spec.max_length > context:
            raise UserError(
                f"{len(prompting.shots)} shots of {len(self._shots)} tokens and --max-length {spec.max_length} exceed "
                f"the {context} tokens of this model's context; use fewer shots or lower --max-length"
            )

    def encode(self, examples: Sequence[Example], *, with_target: bool) -> tuple[list[Encoded], list[TooLong]]:
        """Ids of every example, in order, and those that were left out because their target alone fills the budget.

        The document's budget is max_length - reserved - frame - max(target, max_new_tokens) tokens. Raises `UserError`
        when the instruction and the room for new text already exceed max_length.
        """
        if not examples:
            return [], []
        documents = self._ids([example.document for example in examples])
        targets = self._targets(examples) if with_target else [()] * len(examples)
        encoded: list[Encoded] = []
        too_long: list[TooLong] = []
        for example, document, target in zip(examples, documents, targets, strict=True):
            lead, tail = self._frame(fill(self._instruction, example.fields))
            frame = len(self._ends[0]) + len(lead) + len(tail) + len(self._ends[1])
            if frame + self._max_new_tokens >= self._room:
                raise UserError(
                    f"--max-length {self._spec.max_length} is smaller than the prompt: instruction {frame} tokens, "
                    f"virtual {self._spec.max_length - self._room}, new text {self._max_new_tokens}, document at least "
                    "1; raise --max-length or lower --max-new-tokens"
                )
            budget = self._room - frame - max(len(target), self._max_new_tokens)
            if budget < 1:
                too_long.append(TooLong(example.id, len(target)))
                continue
            kept = tuple(document[:budget])
            prompt = (*(self._shots or self._ends[0]), *lead, *kept, *tail, *self._ends[1])
            encoded.append(Encoded(example.id, prompt, target, len(document) - len(kept)))
        return encoded, too_long

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without special tokens and outer white space."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text.strip()

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # A document that spells out "<|im_end|>" must not end the user's turn: special tokens are split in it.
        batch = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids: list[list[int]] = batch["input_ids"]
        return ids

    def _targets(self, examples: Sequence[Example]) -> list[tuple[int, ...]]:
        # The first reference is the one to learn: data sets with several put the author's first.
        lead = "" if self.template == "chat" else " "
        texts = [lead + " ".join(example.references[0].split()) for example in examples]
        end = self._tokenizer.eos_token_id
        return [(*ids, end) for ids in self._ids(texts)]

    def _encode_shots(self, shots: Sequence[Example]) -> tuple[int, ...]:
        """Ids of the shots, each as a prompt with its target, up to where the next document's frame begins.

        A shot's document is cut as in a prompt of its own. Empty without shots.
        """
        if not shots:
            return ()
        turns = self._turns(len(shots))
        ids: list[int] = []
        documents, targets = self._ids([shot.document for shot in shots]), self._targets(shots)
        for place, (shot, document, (*target, _)) in enumerate(zip(shots, documents, targets, strict=True)):
            lead, tail = self._frame(fill(self._instruction, shot.fields))
            frame = len(self._ends[0]) + len(lead) + len(tail) + len(self._ends[1])
            budget = max(1, self._room - frame - max(len(target) + 1, self._max_new_tokens))
            ids += (*turns[2 * place], *lead, *document[:budget], *tail, *turns[2 * place + 1], *target)
        return (*ids, *turns[-2])

    def _frame(self, instruction: str) -> tuple[list[int], list[int]]:
        """Ids before and after the document, inside the user's turn."""
        if instruction not in self._frames:
            cue = self._spec.cue
            if self.template == "chat":
                lead, tail = f"{instruction}\n\n" if instruction else "", f"\n\n{cue}" if cue else ""
            else:
                # Without a cue this is the coursework's bare prompt: a word, a space, the text.
                lead, tail = (f"{instruction}\n\n", f"\n\n{cue}") if cue else (f"{instruction} ", "")
            # The instruction may hold fields of the data, so it is as hostile as the document.
            before, after = self._ids([lead, tail])
            self._frames[instruction] = before, after
        return self._frames[instruction]

    @functools.cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """What stands before and after the user's one turn, up to where the answer begins."""
        opening, closing = self._turns(0)
        return opening, closing

    def _turns(self, shots: int) -> list[list[int]]:
        """What stands around `shots` pairs of a user's text and its answer and the user's last text: an even number of
        pieces, between which the texts go."""
        if self.template != "chat":
            # The tokenizer's own habit decides about BOS: Llama wants one, GPT-2 has none.
            empty = self._tokenizer("", verbose=False)["input_ids"]
            opening = empty[:1] if empty and empty[0] == self._tokenizer.bos_token_id else []
            (between,) = self._ids(["\n\n"])
            return [opening, *([[], between] * shots), []]
        from jinja2 import TemplateError

        messages = [{"role": role, "content": _SLOT} for _ in range(shots) for role in ("user", "assistant")]
        try:
            text = self._tokenizer.apply_chat_template(
                [*messages, {"role": "user", "content": _SLOT}], tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError) as error:
            raise UserError(f"this model's chat template cannot be used ({error}); use --template plain") from error
        pieces = str(text).split(_SLOT)
        if len(pieces) != 2 * shots + 2:
            raise UserError("this model's chat template leaves out the user's text; use --template plain")
        ids: list[list[int]] = self._tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"]
        return ids
