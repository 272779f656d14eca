"""The starter set: ACLSum, abstracts of 250 papers with three one-sentence summaries each.

Takeshita et al., "ACLSum: A New Dataset for Aspect-based Summarization of Scientific Publications", NAACL 2024.
The files come with the package `aclsum`. It is never imported, because its code needs a package that its data do not.
"""

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tuneoff.data.files import open_file
from tuneoff.data.hub import open_hub
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.starter_packages import DATA, INSTALL, VERSIONS

ASPECTS = ("challenge", "approach", "outcome")
FILES = {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}
HUB_NAME = "sobamchan/aclsum"
# Later revisions join the sections of a paper into one text, so the abstract cannot be separated.
HUB_REVISION = "b5af5932427806c6d9b3034946363c023885e911"


def starter_location() -> str | None:
    """The folder with the files of the starter set; None if the package is not installed or not complete."""
    try:
        folder = Path(str(metadata.distribution(DATA).locate_file(f"{DATA}/dataset")))
    except metadata.PackageNotFoundError:
        return None
    return str(folder) if all((folder / name).is_file() for name in FILES.values()) else None


def starter_present() -> bool:
    """Whether the starter set can be read without a network connection."""
    return starter_location() is not None


def open_starter() -> dict[str, SourceTable]:
    """Open the starter set. Returns split -> table with the columns `id`, `document`, `summary`, `aspect`.

    A table has one row per paper and aspect. Raises `UserError` if neither the package nor the hub provides the data.
    """
    folder = starter_location()
    if folder is not None:
        return {
            split: _aspect_rows(f"{DATA}/{name}", open_file(str(Path(folder, name)))) for split, name in FILES.items()
        }
    try:
        papers = open_hub(HUB_NAME, revision=HUB_REVISION, nested=True)
    except UserError as error:
        message = f"the starter set is not installed and cannot be loaded from the hub; run `{INSTALL}`"
        raise UserError(message) from error
    return {split: _aspect_rows(table.name, table) for split, table in papers.items()}


def _aspect_rows(name: str, papers: SourceTable) -> SourceTable:
    def rows() -> Iterator[SourceRow | UnreadableRow]:
        for paper in papers.rows:
            if isinstance(paper, UnreadableRow):
                yield paper
                continue
            try:
                paper_rows = _rows_of_paper(paper.values)
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"the installed starter set is not the one of {DATA} {VERSIONS[DATA]}; run `{INSTALL}`"
                ) from error
            for row in paper_rows:
                yield SourceRow(paper.number, row)

    return SourceTable(name, papers.unit, rows(), papers.files)


def _rows_of_paper(paper: Mapping[str, Any]) -> list[dict[str, str]]:
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
