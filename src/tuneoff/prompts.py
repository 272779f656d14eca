"""From an example to token ids: template, token budget, target.

A prompt is three pieces: what stands before the document, the document, what stands after it. They are tokenized
apart, so that only the document is ever cut and the ids of a prompt are the same in training and in generation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from tuneoff import tokenization
from tuneoff.cache import WORTH_CACHING_BYTES, file_digest
from tuneoff.data import Example, Examples
from tuneoff.errors import UserError
from tuneoff.spec import PromptSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# In a wording, of the instruction the fields alone that it names; with its colon it is no column's name.
FIELDS_ONLY = "{instruction:fields}"
# Stands for the document while a chat template is rendered; no template or document holds this private-use character.
_SLOT = "\ue000tuneoff\ue000"
# What day it is for chat templates that write the date; Llama 3's takes this one where there is no clock.
_TODAY = date(2024, 7, 26)
_FRAMES_TO_REMEMBER = 4096  # instructions with a field may be as many as the examples


@dataclass(frozen=True)
class Encoded:
    """One example as token ids. `target` ends in EOS; it is empty for generation."""

    id: str
    prompt: tuple[int, ...]
    target: tuple[int, ...]
    cut: int  # document tokens that did not fit


@dataclass(frozen=True)
class OverlongExample:
    """An example whose instruction (with its fields) and target leave no room for its document."""

    id: str
    tokens: int  # of instruction and target


@dataclass(frozen=True)
class Prompting:
    """What a method changes about prompts: a wording around the instruction, and examples in front of the document."""

    wording: str = "{instruction}"
    shots: tuple[Example, ...] = ()


AS_GIVEN = Prompting()


def worded(instruction: str, prompting: Prompting) -> str:
    """The instruction as a method words it, its `{name}`s not yet filled in."""
    fields = " ".join(dict.fromkeys(match[0] for match in _FIELD.finditer(instruction)))
    parts = {"{instruction}": instruction, FIELDS_ONLY: fields}
    return re.sub(r"\{instruction(:fields)?\}", lambda match: parts[match[0]], prompting.wording)


def field_names(instruction: str) -> tuple[str, ...]:
    """The names of the fields that an instruction is filled with."""
    return tuple(dict.fromkeys(_FIELD.findall(instruction)))


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


@dataclass(frozen=True, eq=False)
class _Pieces:
    """What N rows are put together from. `documents` and `targets` hold texts of more rows or in another order: the
    row's text is the one at `document_at` (N,) or `target_at` (N,)."""

    examples: Sequence[Example]
    documents: tokenization.Tokens
    document_at: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]  # (N,) document tokens in the prompt
    targets: tokenization.Tokens | None
    target_at: npt.NDArray[np.int64]


class EncodedRows(Sequence[Encoded]):
    """Rows of ids, each put together when somebody asks for it. Lengths and cuts are known without any row."""

    def __init__(
        self,
        prompter: Prompter,
        pieces: _Pieces,
        at: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        cuts: npt.NDArray[np.int64],
    ) -> None:
        """`at`: the examples that are rows; `lengths` and `cuts`: of each row."""
        self._prompter, self._pieces, self._at = prompter, pieces, at
        self.lengths = lengths  # tokens of prompt and target
        self.cuts = cuts  # document tokens that did not fit

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, at: int) -> Encoded: ...
    @overload
    def __getitem__(self, at: slice) -> EncodedRows: ...
    def __getitem__(self, at: int | slice) -> Encoded | EncodedRows:
        if isinstance(at, slice):
            return EncodedRows(self._prompter, self._pieces, self._at[at], self.lengths[at], self.cuts[at])
        pieces, place = self._pieces, int(self._at[at])
        example = pieces.examples[place]
        document = pieces.documents.first(int(pieces.document_at[place]), int(pieces.kept[place]))
        target = None if pieces.targets is None else pieces.targets.first(int(pieces.target_at[place]))
        return self._prompter.put_together(example, document, target, int(self.cuts[at]))


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

    def encode(self, examples: Sequence[Example], *, with_target: bool) -> tuple[EncodedRows, list[OverlongExample]]:
        """Ids of every example, in order, and those that were left out because no room is left for their document.

        The document's budget is max_length - reserved - frame - max(target, max_new_tokens) tokens. Raises `UserError`
        when the instruction and the room for new text already exceed max_length in every example. The ids of a data
        set's texts are kept in the cache folder.
        """
        frames = self._frame_lengths(examples)
        documents, document_at = self._tokens(examples, "document")
        targets, target_at = self._tokens(examples, "target") if with_target else (None, document_at)
        whole = documents.lengths[document_at]
        of_target = np.zeros_like(whole) if targets is None else targets.lengths[target_at] + 1  # and EOS
        budget = self._room - frames - np.maximum(of_target, self._max_new_tokens)
        kept = np.minimum(whole, budget)
        fits = budget >= 1
        too_long = [OverlongExample(examples[int(at)].id, int(frames[at] + of_target[at])) for at in np.flatnonzero(~fits)]
        at = np.flatnonzero(fits)
        more = len(self._shots) - len(self._ends[0]) if self._shots else 0
        lengths = frames + more + kept + of_target
        pieces = _Pieces(examples, documents, document_at, kept, targets, target_at)
        return EncodedRows(self, pieces, at, lengths[at], (whole - kept)[at]), too_long

    def put_together(self, example: Example, document: list[int], target: list[int] | None, cut: int) -> Encoded:
        """The row of an example. `document`: as much of it as stands in the prompt; `target`: without its EOS."""
        lead, tail = self._frame(fill(self._instruction, example.fields))
        prompt = (*(self._shots or self._ends[0]), *lead, *document, *tail, *self._ends[1])
        learned = () if target is None else (*target, self._tokenizer.eos_token_id)
        return Encoded(example.id, prompt, learned, cut)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without special tokens and outer white space."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text.strip()

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return tokenization.plain_ids(self._tokenizer, texts)

    def _tokens(
        self, examples: Sequence[Example], part: Literal["document", "target"]
    ) -> tuple[tokenization.Tokens, npt.NDArray[np.int64]]:
        """Ids of documents or targets, and where among them each example's are."""
        key = None
        if isinstance(examples, Examples) and examples.text_bytes >= WORTH_CACHING_BYTES:
            # The whole split serves every share of it; where nobody has made it, a share is not made to pay for it.
            if (found := tokenization.find(self._key(examples.whole, part))) is not None:
                return found, examples.within
            key = self._key(examples, part)
            if (found := tokenization.find(key)) is not None:
                return found, np.arange(len(examples))
        texts = (example.document if part == "document" else self._target_text(example) for example in examples)
        return tokenization.make(self._tokenizer, texts, key), np.arange(len(examples))

    def _key(self, examples: Examples, part: str) -> str | None:
        if examples.content is None or self._content is None:
            return None
        # All else that prompts hold stands around these ids, so it is no part of the key.
        lead = [self._target_lead] if part == "target" else []
        return tokenization.key_of(self._content, [*examples.content, part, *lead, _own_code()])

    @functools.cached_property
    def _content(self) -> str | None:
        return tokenization.content(self._tokenizer)

    @property
    def _target_lead(self) -> str:
        return "" if self.template == "chat" else " "

    def _target_text(self, example: Example) -> str:
        # The first reference is the one to learn: data sets with several put the author's first.
        return self._target_lead + " ".join(example.references[0].split())

    def _encode_shots(self, shots: Sequence[Example]) -> tuple[int, ...]:
        """Ids of the shots, each as a prompt with its target, up to where the next document's frame begins.

        A shot's document is cut as in a prompt of its own. Empty without shots.
        """
        if not shots:
            return ()
        turns = self._turns(len(shots))
        ids: list[int] = []
        documents = self._ids([shot.document for shot in shots])
        targets = self._ids([self._target_text(shot) for shot in shots])
        for place, (shot, document, target) in enumerate(zip(shots, documents, targets, strict=True)):
            instruction = fill(self._instruction, shot.fields)
            lead, tail = self._frame(instruction)
            budget = max(1, self._room - self._frame_length(instruction) - max(len(target) + 1, self._max_new_tokens))
            ids += (*turns[2 * place], *lead, *document[:budget], *tail, *turns[2 * place + 1], *target)
        return (*ids, *turns[-2])

    def _frame_lengths(self, examples: Sequence[Example]) -> npt.NDArray[np.int64]:
        """Tokens of each prompt without its document and shots (N,). Raises `UserError` when none leaves any room."""
        if _FIELD.search(self._instruction) is None:  # the same around every document: no need to read them
            frames = np.full(len(examples), self._frame_length(self._instruction))
        else:
            filled = (fill(self._instruction, example.fields) for example in examples)
            frames = np.fromiter((self._frame_length(instruction) for instruction in filled), np.int64, len(examples))
        if len(frames) and (least := frames.min()) + self._max_new_tokens >= self._room:
            raise UserError(
                f"--max-length {self._spec.max_length} is smaller than the prompt: instruction {least} tokens, "
                f"virtual {self._spec.max_length - self._room}, new text {self._max_new_tokens}, document at least "
                "1; raise --max-length or lower --max-new-tokens"
            )
        return frames

    def _frame_length(self, instruction: str) -> int:
        lead, tail = self._frame(instruction)
        return len(self._ends[0]) + len(lead) + len(tail) + len(self._ends[1])

    def _frame(self, instruction: str) -> tuple[list[int], list[int]]:
        """Ids before and after the document, inside the user's turn."""
        frame = self._frames.get(instruction)
        if frame is None:
            cue = self._spec.cue
            if self.template == "chat":
                lead, tail = f"{instruction}\n\n" if instruction else "", f"\n\n{cue}" if cue else ""
            else:
                # Without a cue this is the coursework's bare prompt: a word, a space, the text.
                lead, tail = (f"{instruction}\n\n", f"\n\n{cue}") if cue else (f"{instruction} ", "")
            # The instruction may hold fields of the data, so it is as hostile as the document.
            before, after = self._ids([lead, tail])
            frame = before, after
            if len(self._frames) >= _FRAMES_TO_REMEMBER:  # several threads may have added one at a time
                self._frames.clear()
            self._frames[instruction] = frame
        return frame

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
                [*messages, {"role": "user", "content": _SLOT}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # a model that thinks aloud would fill the room of the text with it
                chat_template=_on_one_day(self._tokenizer.get_chat_template()),
            )
        except (TemplateError, ValueError) as error:
            raise UserError(f"this model's chat template cannot be used ({error}); use --template plain") from error
        pieces = str(text).split(_SLOT)
        if len(pieces) != 2 * shots + 2:
            raise UserError("this model's chat template leaves out the user's text; use --template plain")
        ids: list[list[int]] = self._tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def _on_one_day(template: str) -> str:
    """A chat template with a calendar of its own: by the clock a study over two days would have two prompts."""
    if "strftime_now" not in template:
        return template
    dated = "form" + "".join(f' | replace("%{part}", "{_TODAY.strftime(f"%{part}")}")' for part in "aAbBdHIjmMpSyY")
    return f"{{%- macro strftime_now(form) -%}}{{{{ {dated} }}}}{{%- endmacro -%}}{template}"


@functools.cache
def _own_code() -> str:
    """Which text of an example is tokenized is decided here."""
    return file_digest(Path(__file__))
