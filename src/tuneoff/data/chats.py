"""Chats as rows: the last answer is the text wanted, and what the user wrote before it is the document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneoff.data.source_table import SourceRow, UnreadableRow

CHAT_COLUMNS = ("messages", "conversations")  # of OpenAI and of ShareGPT
_PARTS = ("prompt", "completion")  # of TRL, where each may be a list of messages
COLUMNS_OF_CHATS = frozenset((*CHAT_COLUMNS, *_PARTS))
_ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_EARLIER_TURNS = "other turns of the chat are left out: only the last answer and the question before it are used"


@dataclass(frozen=True)
class _Turn:
    role: str
    text: str


def with_chat_columns(row: SourceRow | UnreadableRow) -> SourceRow | UnreadableRow:
    """The row with columns such as `messages.user`, `messages.assistant` and `messages.system` in place of a chat."""
    if isinstance(row, UnreadableRow) or COLUMNS_OF_CHATS.isdisjoint(row.values):
        return row
    found = {name: turns for name in (*CHAT_COLUMNS, *_PARTS) if (turns := _turns(row.values.get(name))) is not None}
    if not found:
        return row
    values: dict[str, object] = {}
    note = row.note
    for name, value in row.values.items():
        if name not in found:
            values[name] = value
        elif name in _PARTS:
            columns, is_longer = _columns_of_part(name, found[name])
            values |= columns
            note = _EARLIER_TURNS if is_longer else note
        else:
            columns, is_longer = _columns_of(name, found[name])
            values |= columns
            note = _EARLIER_TURNS if is_longer else note
    return SourceRow(row.number, values, note)


def _columns_of(name: str, turns: Sequence[_Turn]) -> tuple[dict[str, object], bool]:
    """The columns of a chat, and whether it has turns that are in none of them."""
    others = [turn for turn in turns if turn.role != "system"]
    last = max((at for at, turn in enumerate(others) if turn.role == "assistant"), default=len(others))
    question, answer = _last_question(others[:last]), others[last : last + 1]
    columns: dict[str, object] = {f"{name}.user": _joined(question)}
    if answer:
        columns[f"{name}.assistant"] = answer[0].text
    if system := _joined([turn for turn in turns if turn.role == "system"]):
        columns[f"{name}.system"] = system
    return columns, len(question) + len(answer) < len(others)


def _last_question(turns: Sequence[_Turn]) -> Sequence[_Turn]:
    """The last turns of the user that follow each other. Calls of tools, or the beginning of an answer, may follow."""
    end = len(turns)
    while end > 0 and turns[end - 1].role != "user":
        end -= 1
    first = end
    while first > 0 and turns[first - 1].role == "user":
        first -= 1
    return turns[first:end]


def _columns_of_part(name: str, turns: Sequence[_Turn]) -> tuple[dict[str, object], bool]:
    """The same of a prompt, of which the last question counts, or of a completion."""
    others = [turn for turn in turns if turn.role != "system"]
    used = _last_question(others) if name == "prompt" else [turn for turn in others if turn.role == "assistant"]
    columns: dict[str, object] = {name: _joined(used)}
    if system := _joined([turn for turn in turns if turn.role == "system"]):
        columns[f"{name}.system"] = system
    return columns, len(used) < len(others)


def _joined(turns: Sequence[_Turn]) -> str:
    return "\n\n".join(turn.text for turn in turns)


def _turns(value: object) -> list[_Turn] | None:
    """The turns of a list of messages; None for any other value."""
    if not isinstance(value, list | tuple) or not value:
        return None
    turns = [_turn(message) for message in value]
    return [turn for turn in turns if turn is not None] if all(turn is not None for turn in turns) else None


def _turn(message: object) -> _Turn | None:
    if not isinstance(message, Mapping):
        return None
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str):
        return None
    if isinstance(content, list):  # of parts, as OpenAI writes them
        content = "\n\n".join(str(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
    return _Turn(_ROLES.get(role.strip().lower(), role), content if isinstance(content, str) else "")
