"""The texts that `summarize --output` has written so far, in a file beside the output: a killed command goes on there.

The first line says what the texts depend on. Each other line has a text and the digest of its document, so that it is
only used for the document that it belongs to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.data import Example
from tuneoff.errors import UserError

if TYPE_CHECKING:
    from tuneoff.run import NewText

SUFFIX = ".part"


class UnfinishedTexts:
    """Texts of the first `documents`, of an earlier command with the same `identity`; others are appended.

    Texts depend on the documents that they are generated with, so whole batches of `batch` documents are kept. Raises
    `UserError` for a file of another identity.
    """

    def __init__(self, output: Path, identity: str, documents: Sequence[Example], batch: int) -> None:
        self.path = output.with_name(output.name + SUFFIX)
        self._documents, self._batch = documents, batch
        head = json.dumps({"identity": identity}).encode() + b"\n"
        lines = self._lines()
        if lines and lines[0] != head:
            raise UserError(
                f"{self.path}: unfinished texts of another run or of other flags; finish that command, delete the "
                "file, or name another --output"
            )
        self._rows = self._known(lines[1:])
        self._kept = [head, *lines[1 : 1 + len(self._rows)]]

    def _lines(self) -> list[bytes]:
        """The whole lines: a kill may have left half of one."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)

    def _known(self, lines: Sequence[bytes]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for line, document in zip(lines, self._documents, strict=False):
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not isinstance(row, dict) or row.pop("document", None) != _digest(document):
                break
            rows.append(row)
        whole = len(rows) if len(rows) == len(self._documents) else len(rows) // self._batch * self._batch
        return rows[:whole]

    def __len__(self) -> int:
        """Texts that are there already."""
        return len(self._rows)

    def continued(self, texts: Iterator[NewText]) -> Iterator[NewText]:
        """The texts that are there, then `texts`, those of the other documents, each written before it is returned."""
        from tuneoff.run import NewText

        yield from (NewText(**row) for row in self._rows)
        with self.path.open("ab") as stream:
            stream.truncate(0 if not self._rows else sum(map(len, self._kept)))
            if not self._rows:
                stream.write(self._kept[0])
            for new, document in zip(texts, self._documents[len(self._rows) :], strict=True):
                row = {"document": _digest(document), **dataclasses.asdict(new)}
                stream.write(json.dumps(row).encode() + b"\n")
                stream.flush()
                yield new

    def remove(self) -> None:
        """Remove the file: the output is written."""
        self.path.unlink(missing_ok=True)


def _digest(document: Example) -> str:
    parts = [document.id, document.document, sorted(document.fields.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
