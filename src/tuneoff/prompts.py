"""Turns examples into token ids: template, token budget, target.

A prompt has three parts: the text before the document, the document, and the text after it. They are tokenized
separately, so only the document is ever truncated, and a prompt has the same token ids in training and generation.
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
from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.data import Example, StoredExamples
from tuneoff.errors import UserError
from tuneoff.spec import PromptSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase

# `{{` and `}}` are literal braces, as in Python's format strings; everything else in braces is the name of a column.
_BRACES = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}")
# In a wording, it is replaced by the fields that the instruction uses.
FIELDS_ONLY = "{instruction:fields}"
# Marks the document while a chat template is rendered. No template or document holds this private-use character.
_SLOT = "\ue000tuneoff\ue000"
# The date for chat templates that write one. The template of Llama 3 uses it too if there is no clock.
_TODAY = date(2024, 7, 26)
# Templates of models that people use take some milliseconds and kilobytes.
_TEMPLATE_LIMITS = ProcessLimits(memory_bytes=500_000_000, cpu_seconds=5, wall_seconds=60, result_bytes=1_000_000)
_MAX_FRAMES = 4096  # with a field, there may be as many instructions as examples


@dataclass(frozen=True)
class Encoded:
    """One example as token ids. `target` ends with EOS; it is empty for generation."""

    id: str
    prompt: tuple[int, ...]
    target: tuple[int, ...]
    truncated_tokens: int  # document tokens that did not fit


@dataclass(frozen=True)
class OverlongExample:
    """An example whose instruction (with its fields) and target leave no room for its document."""

    id: str
    tokens: int  # length of instruction and target


@dataclass(frozen=True)
class Prompting:
    """How a method changes prompts: words around the instruction, and examples (shots) before the document."""

    wording: str = "{instruction}"
    shots: tuple[Example, ...] = ()


AS_GIVEN = Prompting()


@dataclass(frozen=True)
class Field:
    """In a text of a prompt: where the value of this field of a document goes."""

    name: str


@dataclass(frozen=True)
class PromptTexts:
    """A prompt as texts for other programs, which tokenize each of them alone and join the ids.

    The order is `opening`, `before`, the document, `after`, `closing`. `opening` and `closing` may hold special tokens.
    """

    opening: tuple[str, ...]
    before: tuple[str | Field, ...]
    after: str
    closing: str
    room: int
    """Tokens for `before`, the document and `after` together: the document is truncated to what is left."""
    context: int
    """Tokens of the longest prompt with its answer."""


def apply_wording(instruction: str, prompting: Prompting) -> str:
    """The instruction in the wording of a method. Fields such as `{name}` are not filled in yet."""
    fields = " ".join(f"{{{name}}}" for name in field_names(instruction))
    parts = {"{instruction}": instruction, FIELDS_ONLY: fields}
    return re.sub(r"\{instruction(:fields)?\}", lambda match: parts[match[0]], prompting.wording)


def field_names(instruction: str) -> tuple[str, ...]:
    """The names of the fields that an instruction uses: all texts in single braces."""
    names = (match["name"] for match in _BRACES.finditer(instruction))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def fill_fields(instruction: str, fields: Mapping[str, str]) -> str:
    """Replace each `{name}` in `instruction` by the field of an example, and `{{` and `}}` by single braces.

    Raises `UserError` for a missing field.
    """

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0][0]
        if name not in fields:
            available = ", ".join(sorted(fields)) or "none"
            raise UserError(
                f"the instruction uses the field {{{name}}}, which the data does not have (fields: {available}); "
                "correct --instruction or add the column; write {{ and }} for braces that name no column"
            )
        return fields[name]

    return _BRACES.sub(value, instruction)


def _with_fields(instruction: str) -> tuple[str | Field, ...]:
    """The texts of an instruction with its fields between them, `{{` and `}}` as single braces."""
    parts: list[str | Field] = []
    text, start = "", 0
    for match in _BRACES.finditer(instruction):
        text += instruction[start : match.start()]
        start = match.end()
        if match["name"] is None:
            text += match[0][0]
        else:
            parts += (text, Field(match["name"]))
            text = ""
    parts.append(text + instruction[start:])
    return tuple(part for part in parts if part != "")


def name_fields(instruction: str) -> str:
    """The words of an instruction for all examples: each `{name}` becomes the name, `{{` and `}}` single braces."""
    return fill_fields(instruction, {name: name for name in field_names(instruction)})


@dataclass(frozen=True, eq=False)
class _PromptParts:
    """The parts of N prompts.

    `documents` and `targets` may hold texts of other examples too: the texts of example i are at `document_index[i]`
    and `target_index[i]`.
    """

    examples: Sequence[Example]
    documents: tokenization.TokenizedTexts
    document_index: npt.NDArray[np.int64]  # (N,)
    document_lengths: npt.NDArray[np.int64]  # (N,) document tokens in the prompt
    targets: tokenization.TokenizedTexts | None
    target_index: npt.NDArray[np.int64]  # (N,)


class EncodedRows(Sequence[Encoded]):
    """Rows of token ids. A row is built when it is accessed; its lengths are known before."""

    def __init__(
        self,
        prompter: Prompter,
        parts: _PromptParts,
        example_index: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        truncated_tokens: npt.NDArray[np.int64],
    ) -> None:
        """All arrays have one element per row. `example_index` gives the example of each row."""
        self._prompter, self._parts, self._example_index = prompter, parts, example_index
        self.lengths = lengths  # tokens of prompt and target
        self.truncated_tokens = truncated_tokens  # document tokens that did not fit

    @property
    def document_tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of each document that are in its prompt."""
        return self._parts.document_lengths[self._example_index]

    def __len__(self) -> int:
        return len(self._example_index)

    @overload
    def __getitem__(self, at: int) -> Encoded: ...
    @overload
    def __getitem__(self, at: slice) -> EncodedRows: ...
    def __getitem__(self, at: int | slice) -> Encoded | EncodedRows:
        if isinstance(at, slice):
            index = self._example_index[at]
            return EncodedRows(self._prompter, self._parts, index, self.lengths[at], self.truncated_tokens[at])
        parts, position = self._parts, int(self._example_index[at])
        example = parts.examples[position]
        document = parts.documents.ids(int(parts.document_index[position]), int(parts.document_lengths[position]))
        target = None if parts.targets is None else parts.targets.ids(int(parts.target_index[position]))
        return self._prompter.assemble(example, document, target, int(self.truncated_tokens[at]))


class Prompter:
    """Turns examples into token ids, for one tokenizer, template and token budget."""

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
        """`reserved_tokens` is the largest number of virtual tokens of any method in the study. `context` is the number
        of positions of the model; with shots, prompts may exceed max_length up to it.
        """
        self._tokenizer = tokenizer
        self._spec = spec
        self._max_new_tokens = max_new_tokens
        self._token_budget = spec.max_length - reserved_tokens
        has_chat = getattr(tokenizer, "chat_template", None) is not None
        if spec.template == "chat" and not has_chat:
            raise UserError("--template chat: this model's tokenizer has no chat template; use --template plain")
        self.template = ("chat" if has_chat else "plain") if spec.template == "auto" else spec.template
        self._frames: dict[str, tuple[list[int], list[int]]] = {}
        self.instruction = apply_wording(spec.instruction, prompting)
        self._shot_parts = self._encode_shots(prompting.shots)
        self._shots = tuple(token for part in self._shot_parts for token in part)
        if context is not None and len(self._shots) + spec.max_length > context:
            raise UserError(
                f"{len(prompting.shots)} shots of {len(self._shots)} tokens and --max-length {spec.max_length} exceed "
                f"the {context} tokens of this model's context; use fewer shots or lower --max-length"
            )

    def encode(self, examples: Sequence[Example], *, with_target: bool) -> tuple[EncodedRows, list[OverlongExample]]:
        """Encode examples, in order. Also returns those that were left out because their document has no room.

        A document may have max_length - reserved - frame - max(target, max_new_tokens) tokens; the frame is the prompt
        without its document. Raises `UserError` if no example has room for a document. Token ids of a data set are
        cached on disk.
        """
        frames = self._frame_lengths(examples)
        documents, document_index = self._tokenized(examples, "document")
        targets, target_index = self._tokenized(examples, "target") if with_target else (None, document_index)
        full_lengths = documents.lengths[document_index]
        target_lengths = np.zeros_like(full_lengths) if targets is None else targets.lengths[target_index] + 1  # EOS
        budget = self._token_budget - frames - np.maximum(target_lengths, self._max_new_tokens)
        document_lengths = np.minimum(full_lengths, budget)
        fits = budget >= 1
        overlong = [
            OverlongExample(examples[int(index)].id, int(frames[index] + target_lengths[index]))
            for index in np.flatnonzero(~fits)
        ]
        chosen = np.flatnonzero(fits)
        shot_tokens = len(self._shots) - len(self._ends[0]) if self._shots else 0
        lengths = frames + shot_tokens + document_lengths + target_lengths
        truncated = full_lengths - document_lengths
        parts = _PromptParts(examples, documents, document_index, document_lengths, targets, target_index)
        return EncodedRows(self, parts, chosen, lengths[chosen], truncated[chosen]), overlong

    def assemble(self, example: Example, document: list[int], target: list[int] | None, truncated: int) -> Encoded:
        """Build the row of an example from its document, truncated to the prompt, and its target without EOS."""
        before, after = self._frame(fill_fields(self.instruction, example.fields))
        prompt = (*(self._shots or self._ends[0]), *before, *document, *after, *self._ends[1])
        target_ids = () if target is None else (*target, self._tokenizer.eos_token_id)
        return Encoded(example.id, prompt, target_ids, truncated)

    def as_text(self, document: str) -> str:
        """The prompt of a document as text, with its special tokens; each field of the instruction is `{name}`."""
        fields = {name: f"{{{name}}}" for name in field_names(self.instruction)}
        [ids] = self._tokenize([document])
        row = self.assemble(Example("", document, (), "", fields), ids, None, 0)
        text = self._tokenizer.decode(list(row.prompt), clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def as_texts(self) -> PromptTexts:
        """The prompt as texts, of which other programs make the token ids that this one has."""
        before, after = self._frame_texts(self.instruction)
        opening, closing = self._ends
        texts = (self._with_special_tokens(part) for part in (self._shot_parts or (opening,)))
        return PromptTexts(
            opening=tuple(text for text in texts if text),
            before=_with_fields(before),
            after=after,
            closing=self._with_special_tokens(closing),
            room=self._token_budget - self._max_new_tokens - len(opening) - len(closing),
            context=len(self._shots) + self._spec.max_length,
        )

    def _with_special_tokens(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated token ids, without special tokens and outer white space."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text.strip()

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        return tokenization.tokenize_as_plain_text(self._tokenizer, texts)

    def _tokenized(
        self, examples: Sequence[Example], part: Literal["document", "target"]
    ) -> tuple[tokenization.TokenizedTexts, npt.NDArray[np.int64]]:
        """Token ids of documents or targets, and the index of each example's text among them (N,)."""
        key = None
        if isinstance(examples, StoredExamples) and examples.text_bytes >= WORTH_CACHING_BYTES:
            # Token ids of the full split serve every fraction of it. If there are none, only the fraction is tokenized.
            if (found := tokenization.open_tokenized(self._cache_key(examples.full_split, part))) is not None:
                return found, examples.positions_in_split
            key = self._cache_key(examples, part)
            if (found := tokenization.open_tokenized(key)) is not None:
                return found, np.arange(len(examples))
        texts = (example.document if part == "document" else self._target_text(example) for example in examples)
        return tokenization.tokenize(self._tokenizer, texts, key), np.arange(len(examples))

    def _cache_key(self, examples: StoredExamples, part: str) -> str | None:
        if examples.content_key is None or self._fingerprint is None:
            return None
        # The rest of a prompt is around these token ids, so it is not part of the key.
        prefix = [self._target_prefix] if part == "target" else []
        return tokenization.tokens_cache_key(
            self._fingerprint, [*examples.content_key, part, *prefix, _prompting_code()]
        )

    @functools.cached_property
    def _fingerprint(self) -> str | None:
        return tokenization.tokenizer_fingerprint(self._tokenizer)

    @property
    def _target_prefix(self) -> str:
        return "" if self.template == "chat" else " "

    def _target_text(self, example: Example) -> str:
        # Training uses the first reference: in data sets with several, it is the author's.
        return self._target_prefix + example.references[0].strip()

    def _encode_shots(self, shots: Sequence[Example]) -> tuple[Sequence[int], ...]:
        """Token ids of the shots, each a prompt with its target, up to the frame of the next document, in parts.

        The document of a shot is truncated as in a prompt of its own. Empty without shots.
        """
        if not shots:
            return ()
        turns = self._turns(len(shots))
        parts: list[Sequence[int]] = []
        documents = self._tokenize([shot.document for shot in shots])
        targets = self._tokenize([self._target_text(shot) for shot in shots])
        for index, (shot, document, target) in enumerate(zip(shots, documents, targets, strict=True)):
            instruction = fill_fields(self.instruction, shot.fields)
            before, after = self._frame(instruction)
            answer_tokens = max(len(target) + 1, self._max_new_tokens)
            budget = max(1, self._token_budget - self._frame_length(instruction) - answer_tokens)
            parts += (turns[2 * index], before, document[:budget], after, turns[2 * index + 1], target)
        return (*parts, turns[-2])

    def _frame_lengths(self, examples: Sequence[Example]) -> npt.NDArray[np.int64]:
        """Tokens of each prompt without its document and shots (N,). Raises `UserError` if none leaves any room."""
        if not field_names(self.instruction):  # the same for every document, so none is read
            frames = np.full(len(examples), self._frame_length(self.instruction))
        else:
            filled = (fill_fields(self.instruction, example.fields) for example in examples)
            frames = np.fromiter((self._frame_length(instruction) for instruction in filled), np.int64, len(examples))
        if len(frames) and (least := frames.min()) + self._max_new_tokens >= self._token_budget:
            raise UserError(
                f"--max-length {self._spec.max_length} is smaller than the prompt: instruction {least} tokens, "
                f"virtual tokens {self._spec.max_length - self._token_budget}, new text {self._max_new_tokens}, "
                "document at least 1; raise --max-length or lower --max-new-tokens"
            )
        return frames

    def _frame_length(self, instruction: str) -> int:
        before, after = self._frame(instruction)
        return len(self._ends[0]) + len(before) + len(after) + len(self._ends[1])

    def _frame(self, instruction: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the document, within the user's turn."""
        frame = self._frames.get(instruction)
        if frame is None:
            opening, closing = self._frame_texts(instruction)
            # The instruction may contain fields of the data, so its special tokens are split too.
            before, after = self._tokenize([opening, closing])
            frame = before, after
            if len(self._frames) >= _MAX_FRAMES:  # not `==`: several threads may each have added one
                self._frames.clear()
            self._frames[instruction] = frame
        return frame

    def _frame_texts(self, instruction: str) -> tuple[str, str]:
        """The texts before and after the document, within the user's turn."""
        cue = self._spec.cue
        if self.template == "chat":
            return f"{instruction}\n\n" if instruction else "", f"\n\n{cue}" if cue else ""
        # Without a cue, a prompt is the instruction, a space and the document.
        return (f"{instruction}\n\n", f"\n\n{cue}") if cue else (f"{instruction} ", "")

    @functools.cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """Token ids before the text of the user's only turn, and after it up to the answer."""
        opening, closing = self._turns(0)
        return opening, closing

    def _turns(self, shots: int) -> list[list[int]]:
        """Token ids of the template around the texts of a conversation.

        The conversation has `shots` pairs of a user's text and an answer, and the last text of the user. Returns
        2 * shots + 2 parts; text i goes between the parts i and i + 1.
        """
        if self.template != "chat":
            # BOS is added if the tokenizer adds it: Llama's does, GPT-2's does not.
            empty = self._tokenizer("", verbose=False)["input_ids"]
            opening = empty[:1] if empty and empty[0] == self._tokenizer.bos_token_id else []
            (between,) = self._tokenize(["\n\n"])
            return [opening, *([[], between] * shots), []]
        messages = [{"role": role, "content": _SLOT} for _ in range(shots) for role in ("user", "assistant")]
        text = self._rendered([*messages, {"role": "user", "content": _SLOT}])
        parts = text.split(_SLOT)
        if len(parts) != 2 * shots + 2:
            file = _template_file(self._tokenizer)
            raise UserError(f"{file}: this model's chat template leaves out the user's text; use --template plain")
        ids: list[list[int]] = self._tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation. The template is a program of the model's author: it runs in a process of its own.

        The sandbox of transformers keeps it from everything but memory and time, and these have limits here.
        """
        from transformers.utils import chat_template_utils  # noqa: F401 - imported once, not in each process

        file = _template_file(self._tokenizer)

        def render() -> bytes:
            try:
                text = self._tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=True,
                    enable_thinking=False,  # reasoning would use up the tokens for the text
                    chat_template=_with_fixed_date(self._tokenizer.get_chat_template()),
                )
            except MemoryError:
                raise
            except Exception as error:
                raise UserError(
                    f"{file}: this model's chat template cannot be used ({str(error)[:200]}); use --template plain"
                ) from error
            return str(text).encode("utf-8", "surrogatepass")

        try:
            return call_confined(render, _TEMPLATE_LIMITS).decode("utf-8", "surrogatepass")
        except LimitReached as error:
            raise UserError(f"{file}: the chat template {error}; use --template plain") from error


def _template_file(tokenizer: PreTrainedTokenizerBase) -> Path:
    folder = Path(tokenizer.name_or_path)
    alone = folder / "chat_template.jinja"
    return alone if alone.is_file() else folder / "tokenizer_config.json"


def _with_fixed_date(template: str) -> str:
    """Make a chat template write a fixed date: with the current one, prompts of a study would change at midnight."""
    if "strftime_now" not in template:
        return template
    dated = "form" + "".join(f' | replace("%{part}", "{_TODAY.strftime(f"%{part}")}")' for part in "aAbBdHIjmMpSyY")
    return f"{{%- macro strftime_now(form) -%}}{{{{ {dated} }}}}{{%- endmacro -%}}{template}"


@functools.cache
def _prompting_code() -> str:
    """Digest of this file, which decides what text of an example is tokenized."""
    return file_digest(Path(__file__))
