"""From a `DataSpec` to a `Dataset`: open, find the columns, clean, split, cap."""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tuneoff import cache
from tuneoff.data.arrow import is_saved_folder, open_saved_folder
from tuneoff.data.clean import Cleaner
from tuneoff.data.columns import find_columns
from tuneoff.data.example import Dataset, Dropped, Split
from tuneoff.data.files import READERS, local_path, no_such_file, open_file
from tuneoff.data.hub import HUB_NAME, open_hub
from tuneoff.data.splits import count_documents, cut_off, first_groups, first_of
from tuneoff.data.starter import open_starter
from tuneoff.data.store import Examples, Rows, RowWriter, content_hash
from tuneoff.data.table import Table
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def load(spec: DataSpec, wanted: Sequence[str] = ()) -> Dataset:
    """Read, clean and split the data of a spec. The same spec on the same data gives the same data set.

    `wanted`: names of fields that the instruction is filled with; a row that lacks one is dropped. Later splits are
    read first: a document that stands in two of them stays in test, else in validation. Raises `UserError` for what
    cannot be read, for columns that are not there, and for a split that would be empty.
    """
    name, tables = _open(spec)
    before = _states(tables)
    key = _key(spec, wanted, name, tables) if _worth_keeping(before) else None
    kept = cache.find("examples", key) if key is not None else None
    if kept is not None:
        return _dataset(kept)
    with cache.Keeper("examples", key) as keeper:
        tables_of_file = _read(spec, wanted, name, tables, keeper)
        # What was written while it was read is nobody's content.
        return _dataset(keeper.finish(tables_of_file, keep=_states(tables) == before))


def _states(tables: Mapping[Split, Table]) -> list[tuple[int, int]] | None:
    """Size and time of change of every file that is read; None when they are not known."""
    if not all(table.files for table in tables.values()):
        return None
    try:
        found = [file.stat() for table in tables.values() for file in table.files]
    except OSError:
        return None
    return [(status.st_size, status.st_mtime_ns) for status in found]


def _worth_keeping(states: list[tuple[int, int]] | None) -> bool:
    return states is not None and sum(size for size, _ in states) >= cache.WORTH_KEEPING_BYTES


def _key(spec: DataSpec, wanted: Sequence[str], name: str, tables: Mapping[Split, Table]) -> str | None:
    """Names are part of it because the report of cleaning holds them; the code, because cleaning may change."""
    try:
        files = {
            split: [table.name, *(cache.file_digest(file) for file in table.files)] for split, table in tables.items()
        }
    except OSError:
        return None
    return cache.key_of(
        spec=spec.model_dump(mode="json"), wanted=list(wanted), name=name, files=files, code=_own_code()
    )


@functools.cache
def _own_code() -> str:
    return " ".join(cache.file_digest(file) for file in sorted(Path(__file__).parent.glob("*.py")))


def _read(
    spec: DataSpec, wanted: Sequence[str], name: str, tables: Mapping[Split, Table], keeper: cache.Keeper
) -> Mapping[str, bytes]:
    """Clean, split and write the examples; returns the tables that go with them."""
    found = {
        split: find_columns(table, spec.document_column, spec.summary_column, wanted) for split, table in tables.items()
    }
    limits: dict[Split, int | None] = {
        "train": spec.max_train_documents,
        "validation": spec.max_validation_documents,
        "test": spec.max_test_documents,
    }
    missing = [split for split in limits if split not in tables]
    cleaner = Cleaner()
    writer = RowWriter(keeper)
    ranges: dict[Split, tuple[int, int]] = {}
    left_out: dict[Split, int] = {}
    order: tuple[Split, ...] = ("test", "validation", "train")
    for split in order:
        if split not in found:
            continue
        columns, table = found[split]
        start = len(writer)
        # Before parts are cut off the training data, all of it has to be seen.
        limit = None if split == "train" and missing else limits[split]
        examples, left_out[split] = first_groups(cleaner.read(split, table, columns), limit, spec.split_seed)
        for example in examples:
            writer.add(example)
        if len(writer) == start:
            raise UserError(_nothing_left(split, table.name, cleaner.dropped))
        ranges[split] = start, len(writer)
    rows = writer.rows()
    splits = {split: Examples(rows, np.arange(start, end)) for split, (start, end) in ranges.items()}
    if missing:
        shares = {"validation": spec.validation_share, "test": spec.test_share}
        cut = {split: shares[split] for split in missing}
        for split, part in cut_off(splits["train"], cut, spec.split_seed, tables["train"].name).items():
            assert isinstance(part, Examples)
            splits[split], left_out[split] = first_of(part, limits[split], spec.split_seed)
    in_order = {split: splits[split] for split in SPLIT_NAMES}
    meta = {
        "dropped": [[row.split, row.where, row.reason, row.kept] for row in cleaner.dropped],
        "content_hash": content_hash(in_order),
        "description": _description(name, in_order, missing),
        "left_out": {split: count for split, count in left_out.items() if count},
    }
    return {
        "ends": rows.ends.tobytes(),
        "groups": rows.groups.tobytes(),
        **{split: examples.places.tobytes() for split, examples in in_order.items()},
        "meta": json.dumps(meta).encode(),
    }


def _dataset(kept: cache.Kept) -> Dataset:
    tables = kept.tables
    meta = json.loads(tables["meta"])
    rows = Rows(kept.read, np.frombuffer(tables["ends"], np.int64), np.frombuffer(tables["groups"], np.uint64))

    def split(name: Split) -> Examples:
        return Examples(rows, np.frombuffer(tables[name], np.int64), (meta["content_hash"], name))

    return Dataset(
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        dropped=tuple(Dropped(*row) for row in meta["dropped"]),
        content_hash=meta["content_hash"],
        description=meta["description"],
        left_out=meta["left_out"],
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
    if folder.suffix.lower() in READERS:  # nobody calls a data set of the hub so, and asking there takes half a minute
        raise no_such_file(folder)
    if not HUB_NAME.fullmatch(spec.source):
        raise UserError(f"{spec.source}: there is no such folder, and it is no hub name either; check the path")
    return spec.source, _by_split(spec.source, open_hub(spec.source, spec.config))


def _refuse_same_file(given: Mapping[Split, str]) -> None:
    """The same file twice would leave the training data without a document: better to say so than to drop them all."""
    by_path: dict[Path, Split] = {}
    for split, file in given.items():
        other = by_path.setdefault(local_path(file).resolve(), split)
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


def _description(name: str, splits: Mapping[Split, Examples], missing: Sequence[Split]) -> str:
    counts = []
    for split in SPLIT_NAMES:
        documents = count_documents(splits[split])
        cut = " (cut off train)" if split in missing else ""
        counts.append(f"{split} {len(splits[split])} pairs of {documents} documents{cut}")
    return f"{name}: {', '.join(counts)}"
