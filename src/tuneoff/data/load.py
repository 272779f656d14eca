"""From a `DataSpec` to a `Dataset`: open, find the columns, clean, split, cap."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneoff.data.arrow import is_saved_folder, open_saved_folder
from tuneoff.data.clean import Cleaner
from tuneoff.data.columns import find_columns
from tuneoff.data.example import Dataset, Dropped, Example, Split
from tuneoff.data.files import local_path, open_file
from tuneoff.data.hub import HUB_NAME, open_hub
from tuneoff.data.splits import cut_off, first_groups
from tuneoff.data.starter import open_starter
from tuneoff.data.table import Table
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def load(spec: DataSpec) -> Dataset:
    """Read, clean and split the data of a spec. The same spec on the same data gives the same data set.

    Later splits are read first: a document that stands in two of them stays in test, else in validation. Raises
    `UserError` for what cannot be read, for columns that are not there, and for a split that would be empty.
    """
    name, tables = _open(spec)
    found = {split: find_columns(table, spec.document_column, spec.summary_column) for split, table in tables.items()}
    limits: dict[Split, int | None] = {
        "train": spec.max_train_documents,
        "validation": spec.max_validation_documents,
        "test": spec.max_test_documents,
    }
    missing = [split for split in limits if split not in tables]
    cleaner = Cleaner()
    splits: dict[Split, list[Example]] = {}
    left_out: dict[Split, int] = {}
    order: tuple[Split, ...] = ("test", "validation", "train")
    for split in order:
        if split not in found:
            continue
        columns, table = found[split]
        # Before parts are cut off the training data, all of it has to be seen.
        limit = None if split == "train" and missing else limits[split]
        splits[split], left_out[split] = first_groups(cleaner.read(split, table, columns), limit, spec.split_seed)
        if not splits[split]:
            raise UserError(_nothing_left(split, table.name, cleaner.dropped))
    if missing:
        shares = {"validation": spec.validation_share, "test": spec.test_share}
        wanted = {split: shares[split] for split in missing}
        for split, part in cut_off(splits["train"], wanted, spec.split_seed, tables["train"].name).items():
            splits[split], left_out[split] = first_groups(part, limits[split], spec.split_seed)
    return Dataset(
        train=tuple(splits["train"]),
        validation=tuple(splits["validation"]),
        test=tuple(splits["test"]),
        dropped=tuple(cleaner.dropped),
        content_hash=_content_hash(splits),
        description=_description(name, splits, missing),
        left_out={split: count for split, count in left_out.items() if count},
    )


def _open(spec: DataSpec) -> tuple[str, dict[Split, Table]]:
    """A name for people and the tables by split."""
    if spec.source is None:
        files: dict[Split, str | None] = {
            "train": spec.train_file,
            "validation": spec.validation_file,
            "test": spec.test_file,
        }
        given = {split: file for split, file in files.items() if file is not None}
        _refuse_same_file(given)
        return ", ".join(Path(file).name for file in given.values()), {
            split: open_file(file) for split, file in given.items()
        }
    if spec.source == "starter":
        return "starter set (ACLSum)", _by_split("the starter set", open_starter())
    folder = local_path(spec.source)
    if folder.is_dir():
        if not is_saved_folder(folder):
            raise UserError(f"{folder}: not a folder written by datasets; name its data files with --train-file")
        return folder.resolve().name, _by_split(str(folder), open_saved_folder(folder))
    if folder.exists():
        raise UserError(f"{folder}: a file, where a folder or a hub name was expected; give it with --train-file")
    if not HUB_NAME.fullmatch(spec.source):
        raise UserError(f"{spec.source}: there is no such folder, and it is no hub name either; check the path")
    return spec.source, _by_split(spec.source, open_hub(spec.source, spec.config))


def _refuse_same_file(given: Mapping[Split, str]) -> None:
    """The same file twice would leave the training data without a document: better to say so than to drop them all."""
    by_path: dict[Path, Split] = {}
    for split, file in given.items():
        other = by_path.setdefault(Path(file).expanduser().resolve(), split)
        if other != split:
            raise UserError(f"{file}: given for both {other} and {split}; leave one out and it is cut off the other")


def _by_split(name: str, tables: Mapping[str, Table]) -> dict[Split, Table]:
    found: dict[Split, Table] = {}
    for split, usual in SPLIT_NAMES.items():
        match = next((tables[known] for known in usual if known in tables), None)
        if match is not None:
            found[split] = match
    if "train" not in found:
        raise UserError(
            f"{name}: there is no split 'train' to adapt a model on (splits: {', '.join(tables) or 'none'})"
        )
    return found


def _nothing_left(split: Split, name: str, dropped: Sequence[Dropped]) -> str:
    reasons = Counter(row.reason for row in dropped if row.split == split).most_common(3)
    told = "; ".join(f"{reason}: {count}" for reason, count in reasons)
    return f"{name}: no row of it is left for {split} after cleaning ({told}); mend the data or give other columns"


def _content_hash(splits: Mapping[Split, Sequence[Example]]) -> str:
    """16 hex digits of the SHA-256 over splits, ids, texts and fields, in their order."""
    digest = hashlib.sha256()
    for split in SPLIT_NAMES:
        for example in splits[split]:
            row = [split, example.id, example.document, example.references, sorted(example.fields.items())]
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()[:16]


def _description(name: str, splits: Mapping[Split, Sequence[Example]], missing: Sequence[Split]) -> str:
    counts = []
    for split in SPLIT_NAMES:
        documents = len({example.group for example in splits[split]})
        cut = " (cut off train)" if split in missing else ""
        counts.append(f"{split} {len(splits[split])} pairs of {documents} documents{cut}")
    return f"{name}: {', '.join(counts)}"
