"""The starter set: ACLSum, abstracts of 250 papers with three one-sentence summaries each.

Takeshita et al., "ACLSum: A New Dataset for Aspect-based Summarization of Scientific Publications", NAACL 2024.
The package `aclsum` carries the files; it is never imported, because its import needs a package that the data do not.
"""

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tuneoff.data.files import open_file
from tuneoff.data.hub import open_hub
from tuneoff.data.table import Row, Table, Unreadable
from tuneoff.errors import UserError

PACKAGE = "aclsum"
INSTALL = "pip install --no-deps aclsum==0.1.2"
ASPECTS = ("challenge", "approach", "outcome")
FILES = {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}
HUB_NAME = "sobamchan/aclsum"
# Later revisions join the sections of a paper into one text, in which the abstract cannot be found again.
HUB_REVISION = "b5af5932427806c6d9b3034946363c023885e911"


def starter_location() -> str | None:
    """The folder of the starter set's files, or None when the package is not installed or not complete."""
    try:
        folder = Path(str(metadata.distribution(PACKAGE).locate_file(f"{PACKAGE}/dataset")))
    except metadata.PackageNotFoundError:
        return None
    return str(folder) if all((folder / name).is_file() for name in FILES.values()) else None


def starter_present() -> bool:
    """Whether the starter set can be read without a network."""
    return starter_location() is not None


def open_starter() -> dict[str, Table]:
    """Split -> table with the columns `id`, `document`, `summary`, `aspect`: one row per paper and aspect.

    Raises `UserError` when neither the package nor the hub has the data.
    """
    folder = starter_location()
    if folder is not None:
        return {split: _pairs(f"{PACKAGE}/{name}", open_file(str(Path(folder, name)))) for split, name in FILES.items()}
    try:
        papers = open_hub(HUB_NAME, revision=HUB_REVISION, nested=True)
    except UserError as error:
        message = f"the starter set is not installed, and the hub does not give it either; run `{INSTALL}`"
        raise UserError(message) from error
    return {split: _pairs(table.name, table) for split, table in papers.items()}


def _pairs(name: str, papers: Table) -> Table:
    def rows() -> Iterator[Row | Unreadable]:
        for paper in papers.rows:
            if isinstance(paper, Unreadable):
                yield paper
                continue
            try:
                pairs = _pairs_of(paper.values)
            except (KeyError, TypeError) as error:
                raise UserError(f"the starter set is not the one of {PACKAGE} 0.1.2; run `{INSTALL}`") from error
            for pair in pairs:
                yield Row(paper.number, pair)

    return Table(name, papers.unit, rows(), papers.files)


def _pairs_of(paper: Mapping[str, Any]) -> list[dict[str, str]]:
    document = " ".join(paper["sentences"]["abstract"])
    return [
        {
            "id": f"{paper['id']}-{aspect}",
            "document": document,
            "summary": paper["summary"][aspect],
            "aspect": aspect,
        }
        for aspect in ASPECTS
    ]
