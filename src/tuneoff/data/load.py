"""Loads the `Dataset` of a `DataSpec`: opens the source, finds the columns, cleans, splits and limits."""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tuneoff import cache
from tuneoff.data.archives import SPLIT_NAMES, open_split_files
from tuneoff.data.arrow import is_saved_folder, open_saved_folder
from tuneoff.data.byte_source import file_source
from tuneoff.data.clean import Cleaner
from tuneoff.data.columns import FoundColumns, find_columns
from tuneoff.data.example import ColumnsTaken, Dataset, DroppedRow, Split
from tuneoff.data.file_kinds import ZIP
from tuneoff.data.files import expanded, has_data_suffix, local_path, no_such_file, open_file
from tuneoff.data.hub import HUB_NAME, open_hub
from tuneoff.data.json_splits import json_splits
from tuneoff.data.repeated import count_repeated, with_references_joined
from tuneoff.data.source_table import SourceTable
from tuneoff.data.splits import count_documents, fold_of, hold_out, limit_documents, limit_stored_documents
from tuneoff.data.starter import open_starter
from tuneoff.data.stored_examples import ExampleWriter, StoredExamples, StoredRows, dataset_hash
from tuneoff.data.stories import is_story_folder, open_stories
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec
from tuneoff.spec.run import paths_of
from tuneoff.text import plural

Tables = Sequence[SourceTable]  # of one split: one, or one for each of its files


def load_dataset(spec: DataSpec, required_fields: Sequence[str] = ()) -> Dataset:
    """Read, clean and split the data of a spec. The same spec on the same data gives the same data set.

    `required_fields` are the fields that the instruction uses; a row that lacks one is dropped. A document that is in
    two splits stays in the test split, else in validation. Raises `UserError` if the data cannot be read, a column is
    missing, or a split would be empty.
    """
    name, tables = open_tables(spec)
    before = _file_states(tables)
    key = _examples_cache_key(spec, required_fields, name, tables) if _is_worth_caching(before) else None
    cached = cache.open_cached("examples", key) if key is not None else None
    if cached is not None:
        return _cached_dataset(cached)
    with cache.CacheWriter("examples", key) as writer:
        cache_tables = _clean_and_split(spec, required_fields, name, tables, writer)
        # A file that changed while it was read matches no digest.
        return _cached_dataset(writer.finish(cache_tables, keep=_file_states(tables) == before))


def _file_states(tables: Mapping[Split, Tables]) -> list[tuple[int, int]] | None:
    """Size and modification time of every source file; None if the files are not known."""
    every = [table for parts in tables.values() for table in parts]
    if not all(table.files for table in every):
        return None
    try:
        found = [file.stat() for table in every for file in table.files]
    except OSError:
        return None
    return [(status.st_size, status.st_mtime_ns) for status in found]


def _is_worth_caching(states: list[tuple[int, int]] | None) -> bool:
    return states is not None and sum(size for size, _ in states) >= cache.WORTH_CACHING_BYTES


def _examples_cache_key(
    spec: DataSpec, required_fields: Sequence[str], name: str, tables: Mapping[Split, Tables]
) -> str | None:
    """Includes file names, which the cleaning report quotes, and this package's code, because cleaning may change."""
    try:
        files = {
            split: [[table.name, *(cache.file_digest(file) for file in table.files)] for table in parts]
            for split, parts in tables.items()
        }
    except OSError:
        return None
    return cache.cache_key(
        spec=spec.model_dump(mode="json"),
        fields=list(required_fields),
        name=name,
        files=files,
        code=_data_code_digest(),
    )


@functools.cache
def _data_code_digest() -> str:
    return " ".join(cache.file_digest(file) for file in sorted(Path(__file__).parent.glob("*.py")))


def _clean_and_split(
    spec: DataSpec,
    required_fields: Sequence[str],
    name: str,
    tables: Mapping[Split, Tables],
    cache_writer: cache.CacheWriter,
) -> Mapping[str, bytes]:
    """Write the clean examples to the cache file. Returns the tables of that file: row ends, groups, splits, report."""
    found = _find_columns(spec, required_fields, tables)
    _check_given_columns(spec.summary_column, [part for parts in found.values() for part in parts])
    limits: dict[Split, int | None] = {
        "train": spec.max_train_documents,
        "validation": spec.max_validation_documents,
        "test": spec.max_test_documents,
    }
    missing = [split for split in limits if split not in tables]
    _check_shares(spec, tables)
    cleaner = Cleaner()
    writer = ExampleWriter(cache_writer)
    ranges: dict[Split, tuple[int, int]] = {}
    over_limit: dict[Split, int] = {}
    order: tuple[Split, ...] = ("test", "validation", "train")
    for split in order:
        if split not in found:
            continue
        start = len(writer)
        # Splits are held out from all the training data, so its limit is applied afterwards.
        limit = None if split == "train" and missing else limits[split]
        examples, over_limit[split] = limit_documents(cleaner.read(split, found[split]), limit, spec.split_seed)
        for example in examples:
            writer.add(example)
        if len(writer) == start:
            raise UserError(_empty_split_message(split, _names(tables[split]), cleaner.dropped))
        ranges[split] = start, len(writer)
    rows = writer.rows()
    splits = {split: StoredExamples(rows, np.arange(start, end)) for split, (start, end) in ranges.items()}
    joined = {split: count_documents(splits[split]) for split, parts in tables.items() if len(parts) > 1}
    pool = splits["train"]
    if spec.folds is not None:
        _check_no_splits(spec, tables)
        parts = fold_of(
            pool, spec.folds, spec.fold or 1, spec.validation_share, spec.split_seed, _names(tables["train"])
        )
        for split, part in parts.items():
            assert isinstance(part, StoredExamples)
            splits[split], over_limit[split] = limit_stored_documents(part, limits[split], spec.split_seed)
        if spec.fold is None:
            splits["test"] = pool  # every part is tested once
    elif missing:
        fractions = {"validation": spec.validation_share, "test": spec.test_share}
        held_out = {split: fractions[split] for split in missing}
        for split, part in hold_out(splits["train"], held_out, spec.split_seed, _names(tables["train"])).items():
            assert isinstance(part, StoredExamples)
            splits[split], over_limit[split] = limit_stored_documents(part, limits[split], spec.split_seed)
    if spec.repeated_documents == "references":
        for split in ("test", "validation"):
            start = len(writer)
            for example in with_references_joined(splits[split], required_fields):
                writer.add(example)
            ranges[split] = start, len(writer)
        rows = writer.rows()
        for split in ("test", "validation"):
            splits[split] = StoredExamples(rows, np.arange(*ranges[split]))
    in_order = {split: splits[split] for split in SPLIT_NAMES}
    meta = {
        "dropped": [[row.split, row.location, row.reason, row.kept] for row in cleaner.dropped],
        "content_hash": dataset_hash(in_order if spec.folds is None else {"train": pool}),  # of all folds
        "rows": dataset_hash(in_order),
        "description": _describe(name, tables, joined, in_order, missing) + _about_folds(spec),
        "over_limit": {split: count for split, count in over_limit.items() if count},
        "columns": {split: _columns_taken(parts) for split, parts in found.items()},
        "cautions": [*_cautions_about_reading(found), *_cautions_about_repeats(spec, splits["test"], required_fields)],
    }
    return {
        "ends": rows.ends.tobytes(),
        "groups": rows.groups.tobytes(),
        **{split: examples.indices.tobytes() for split, examples in in_order.items()},
        "meta": json.dumps(meta).encode(),
    }


def _find_columns(
    spec: DataSpec, required_fields: Sequence[str], tables: Mapping[Split, Tables]
) -> dict[Split, list[FoundColumns]]:
    """The columns of every table. If one needs the instruction of Alpaca with the input, all tables are read so."""

    def find(table: SourceTable, split: Split, *, joins_input: bool = False) -> FoundColumns:
        given = spec.document_column, spec.summary_column, required_fields, spec.summary_lists
        return find_columns(table, *given, split, joins_input=joins_input)

    found = {split: [find(table, split) for table in parts] for split, parts in tables.items()}
    joined = [part.taken.added_to_document is not None for parts in found.values() for part in parts]
    if not any(joined) or all(joined):
        return found
    return {split: [find(part.table, split, joins_input=True) for part in parts] for split, parts in found.items()}


def _check_shares(spec: DataSpec, tables: Mapping[Split, Tables]) -> None:
    """Raise `UserError` for a share to hold out, other than the default, where the split has data of its own."""
    shares: dict[Split, int | float] = {"validation": spec.validation_share, "test": spec.test_share}
    for split, share in shares.items():
        if split in tables and share != DataSpec.model_fields[f"{split}_share"].default:
            raise UserError(
                f"--{split}-share {share:g}: nothing is held out, because there are {split} data "
                f"({_names(tables[split])}); leave out one of the two"
            )


def _check_no_splits(spec: DataSpec, tables: Mapping[Split, Tables]) -> None:
    """Raise `UserError` for data that have splits of their own, which folds would ignore."""
    for split, parts in tables.items():
        if split != "train":
            raise UserError(
                f"--folds {spec.folds}: the data have a split for {split} ({_names(parts)}); leave out --folds, or "
                "give one file with all examples as --train-file"
            )


def _cached_dataset(cached: cache.CachedFile) -> Dataset:
    tables = cached.tables
    meta = json.loads(tables["meta"])
    rows = StoredRows(cached.read, np.frombuffer(tables["ends"], np.int64), np.frombuffer(tables["groups"], np.uint64))

    def split(name: Split) -> StoredExamples:
        return StoredExamples(rows, np.frombuffer(tables[name], np.int64), (meta["rows"], name))

    return Dataset(
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
        dropped=tuple(DroppedRow(*row) for row in meta["dropped"]),
        content_hash=meta["content_hash"],
        description=meta["description"],
        over_limit=meta["over_limit"],
        columns={
            name: ColumnsTaken(document, tuple(summary), tuple(fields), tuple(passed_over), added)
            for name, (document, summary, fields, passed_over, added) in meta["columns"].items()
        },
        cautions=tuple(meta["cautions"]),
    )


def open_tables(spec: DataSpec) -> tuple[str, dict[Split, Tables]]:
    """A name for messages, and the tables by split."""
    if spec.source is None:
        files: dict[Split, Sequence[str]] = {
            "train": paths_of(spec.train_file),
            "validation": paths_of(spec.validation_file),
            "test": paths_of(spec.test_file),
        }
        given = {split: tuple(match for path in paths for match in expanded(path)) for split, paths in files.items()}
        _check_files_differ(given)
        return ", ".join(Path(file).name for paths in given.values() for file in paths), {
            split: [open_file(file, spec.encoding) for file in paths] for split, paths in given.items() if paths
        }
    if spec.source == "starter":
        return "starter set (ACLSum)", _by_split("the starter set", open_starter())
    folder = local_path(spec.source)
    if folder.is_dir() and is_saved_folder(folder):
        return folder.resolve().name, _by_split(str(folder), open_saved_folder(folder))
    if folder.is_dir() and is_story_folder(folder):
        return folder.resolve().name, {**open_stories(folder, spec.encoding)}
    if folder.is_dir() or (folder.is_file() and file_source(folder).start.startswith(ZIP)):
        return folder.resolve().name, {**open_split_files(folder, spec.encoding)}
    if folder.is_file() and (splits := json_splits(file_source(folder), spec.encoding)) is not None:
        return folder.name, _by_split(str(folder), splits)
    if folder.exists():
        raise UserError(
            f"{folder}: a file, but a folder, a zip archive or a hub name was expected; name it with --train-file"
        )
    if has_data_suffix(folder.name):  # surely not a hub name; asking the hub takes half a minute
        raise no_such_file(folder)
    if not HUB_NAME.fullmatch(spec.source):
        raise UserError(f"{spec.source}: there is no such folder, and it is not a hub name; check the path")
    return spec.source, _by_split(spec.source, open_hub(spec.source, spec.config))


def _check_files_differ(given: Mapping[Split, Sequence[str]]) -> None:
    """Raise `UserError` if a file is given twice: cleaning would drop every document of one of them."""
    by_path: dict[Path, Split] = {}
    for split, paths in given.items():
        for file in paths:
            path = local_path(file).resolve()
            other = by_path.get(path)
            if other == split:
                raise UserError(f"{file}: given twice for {split}; name it once")
            if other is not None:
                raise UserError(
                    f"{file}: given for both {other} and {split}; leave one out to hold that split out from the other"
                )
            by_path[path] = split


def _by_split(name: str, tables: Mapping[str, SourceTable]) -> dict[Split, Tables]:
    found: dict[Split, Tables] = {}
    for split, usual in SPLIT_NAMES.items():
        match = next((tables[known] for known in usual if known in tables), None)
        if match is not None:
            found[split] = [match]
    if "train" not in found:
        raise UserError(
            f"{name}: it has no split 'train' to train on (splits: {', '.join(tables) or 'none'}); "
            "name files with --train-file"
        )
    return found


def _names(tables: Tables) -> str:
    return tables[0].name if len(tables) == 1 else f"{tables[0].name} and {plural(len(tables) - 1, 'other file')}"


def _check_given_columns(given: str | None, found: Sequence[FoundColumns]) -> None:
    """Raise `UserError` if one of several given summary columns is in no table."""
    if given is None or any(given in part.columns.summary for part in found):
        return
    there = {name for part in found for name in part.columns.summary}
    missing = next((name for name in (part.strip() for part in given.split(",")) if name not in there), None)
    if missing is not None:
        raise UserError(f"--summary-column {given}: no file has a column {missing!r}; correct the name or leave it out")


def _columns_taken(parts: Sequence[FoundColumns]) -> tuple[str, list[str], list[str], list[str], str | None]:
    """The columns of a split. Files with other names add theirs."""
    taken = [part.taken for part in parts]
    return (
        ", ".join(dict.fromkeys(columns.document for columns in taken)),
        list(dict.fromkeys(name for columns in taken for name in columns.summary)),
        list(dict.fromkeys(name for columns in taken for name in columns.fields)),
        list(dict.fromkeys(name for columns in taken for name in columns.passed_over)),
        next((columns.added_to_document for columns in taken if columns.added_to_document is not None), None),
    )


def _cautions_about_reading(found: Mapping[Split, Sequence[FoundColumns]]) -> dict[str, None]:
    return dict.fromkeys(caution for parts in found.values() for part in parts for caution in part.cautions)


def _cautions_about_repeats(spec: DataSpec, test: StoredExamples, used_fields: Sequence[str]) -> list[str]:
    count = count_repeated(test, used_fields) if spec.repeated_documents is None else 0
    if not count:
        return []
    documents = f"{plural(count, 'document')} {'has' if count == 1 else 'have'}"
    return [
        f"test: {documents} several rows with different summaries, and each is scored against its own alone; "
        "--repeated-documents references takes them as alternative references, --repeated-documents examples confirms "
        "it"
    ]


def _empty_split_message(split: Split, name: str, dropped: Sequence[DroppedRow]) -> str:
    reasons = Counter(row.reason for row in dropped if row.split == split).most_common(3)
    listed = "; ".join(f"{reason}: {count}" for reason, count in reasons)
    return f"{name}: no row is left for {split} after cleaning ({listed}); correct the data or give other columns"


def _about_folds(spec: DataSpec) -> str:
    if spec.folds is None:
        return ""
    if spec.fold is None:
        return f"; {spec.folds} folds, each tested once by trainings on the others (train and validation of fold 1)"
    return f"; fold {spec.fold} of {spec.folds}"


def _describe(
    name: str,
    tables: Mapping[Split, Tables],
    joined: Mapping[Split, int],
    splits: Mapping[Split, StoredExamples],
    missing: Sequence[Split],
) -> str:
    """`joined`: documents of the splits that are made of several files."""
    files = [f"{len(tables[split])} {split} files joined, {plural(joined[split], 'document')}" for split in joined]
    source = f"{name} ({'; '.join(files)})" if files else name
    counts = []
    for split in SPLIT_NAMES:
        documents = count_documents(splits[split])
        note = " (held out from train)" if split in missing else ""
        pairs = f"{len(splits[split])} pair{'s' if len(splits[split]) != 1 else ''}"
        counts.append(f"{split} {pairs} of {documents} document{'s' if documents != 1 else ''}{note}")
    return f"{source}: {', '.join(counts)}"
