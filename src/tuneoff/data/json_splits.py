"""A JSON file that holds the splits of a data set under their names: `{"train": [...], "test": [...]}`."""

from tuneoff.data.archives import SPLIT_NAMES
from tuneoff.data.byte_source import ByteSource
from tuneoff.data.chats import with_chat_columns
from tuneoff.data.encoding import text_encoding
from tuneoff.data.json_rows import is_list_of_rows, numbered, whole_values
from tuneoff.data.source_table import SourceTable

_KNOWN = frozenset(name for names in SPLIT_NAMES.values() for name in names)


def json_splits(source: ByteSource, encoding: str | None = None) -> dict[str, SourceTable] | None:
    """A table for each key that holds rows; None for a file that is not an object with a split among its keys.

    Raises `UserError` for a file that is not JSON, or that is too large to be read at once.
    """
    if source.suffix != ".json" or not source.start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return None
    found = text_encoding(source, encoding)
    values = whole_values(source, found.name)
    table = values[0]
    if len(values) > 1 or not isinstance(table, dict):
        return None
    tables = {key: value for key, value in table.items() if is_list_of_rows(value)}
    if not _KNOWN & tables.keys():
        return None
    # A split that is empty or has a malformed row is refused like a file of its own, and never left out.
    tables |= {key: value for key, value in table.items() if key in _KNOWN and isinstance(value, list)}
    cautions = () if found.caution is None else (found.caution,)
    return {
        key: SourceTable(
            f"{source.name} {key}", "row", map(with_chat_columns, numbered(rows)), (source.path,), cautions
        )
        for key, rows in tables.items()
    }
