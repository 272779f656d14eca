"""The one owner of study folders: every path, every read and every write. `run_dir` does the same for run folders.

A study folder holds:

    study.json        the `StudySpec`
    plan.json         hashes of the contents, and the runs that belong to the study
    data.json         counts of examples, and what cleaning did
    budget.json       the plan that fits the study into its time limit
    work.json         what other machines need to take part, in a study that is shared
    search.json       the trials and the chosen settings
    documents.jsonl   the test examples
    baselines/, outside/    predictions of sentence baselines and of outside systems
    runs/<name>-<id>/       one folder for each run
    manifest.json           digests of all of these files
    summary.json, report.html, rating.html, figures/    what the study found
    outputs.json            their digests
    damaged/                what was damaged and has been moved aside
    claims/, attempts/      who carries out which run, and where, in a study that is shared
    slurm/                  logs of workers that SLURM started
    store.json              which object store the folder is a copy of
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tuneoff.errors import UserError
from tuneoff.regular_files import check_inside
from tuneoff.results.json_files import (
    TEMPORARY_PREFIX,
    LaterVersion,
    Model,
    check_unique,
    json_text,
    jsonl_text,
    parse_json,
    parse_jsonl,
    remove_temporary_files,
    write_text_atomic,
)
from tuneoff.results.lock import LOCK_FILE, study_lock
from tuneoff.results.manifest import (
    MANIFEST,
    RUN_AGAIN,
    CoveredFolder,
    FileEntry,
    Manifest,
    entry_of_file,
    manifest_text,
    read_manifest,
)
from tuneoff.results.run_claims import CLAIMS
from tuneoff.results.run_dir import RECORD, RunDir, StoredRun
from tuneoff.results.run_record import Document, Prediction, Record
from tuneoff.results.study_state import BudgetFile, DataFile, PlanFile, SearchFile, WorkFile
from tuneoff.results.summary import Summary
from tuneoff.results.writable_folders import check_own_folders
from tuneoff.spec import StudySpec

OUTPUTS = "outputs.json"
STORE_FILE = "store.json"
DAMAGED = "damaged"
ATTEMPTS = "attempts"
_LAST_EVENTS_SECONDS = 5.0  # the last event may be written after the record
SLURM = "slurm"
_RUN_AGAIN = "restore it or run the study again"
_OWN_FILES = frozenset(
    {"study.json", "plan.json", "data.json", "budget.json", "search.json", "work.json", "documents.jsonl", STORE_FILE}
)
_OWN_OUTPUTS = frozenset({"summary.json", "report.html", "rating.html", OUTPUTS, MANIFEST})
_OWN_FOLDERS = frozenset({"runs", "baselines", "outside", "figures", CLAIMS, ATTEMPTS, SLURM, DAMAGED})


@dataclass(frozen=True)
class StoredStudy:
    """A study folder that was read once: spec, plan, records, predictions.

    `runs` are those that belong to the study; a folder may hold others, of an earlier choice of methods. `spec` is
    None for a folder without `study.json`: records can be judged without it.
    """

    dir: "StudyDir"
    spec: StudySpec | None
    plan: PlanFile
    data: DataFile
    budget: BudgetFile | UserError | None
    search: SearchFile | None
    runs: tuple[StoredRun, ...]

    @property
    def path(self) -> Path:
        """The study folder."""
        return self.dir.path

    @property
    def name(self) -> str:
        """The study's name; that of its folder if nothing else is known."""
        return self.spec.name if self.spec else self.path.name

    @property
    def records(self) -> list[Record]:
        """The records of all runs, in the order of `runs`."""
        return [run.record for run in self.runs]

    @property
    def complete(self) -> bool:
        """Whether no run is missing: every planned run has ended or failed, and so have the trials of every search.

        If a trial was interrupted, the final runs of its method are not even planned. Those that follow from a look
        are not planned before it.
        """
        if self.plan.open:
            return False
        done = {run.name for run in self.runs if run.record.status not in ("interrupted", "running")}
        if self.plan.runs is not None and not done.issuperset(self.plan.runs):
            return False
        if self.search is None:
            return self.spec is None or not self.spec.trials
        return all(cell.chosen is not None for cell in self.search.cells)

    def run(self, name: str) -> StoredRun | None:
        """The run in the folder `name`."""
        return next((run for run in self.runs if run.name == name), None)

    @cached_property
    def documents(self) -> list[Document]:
        """The test documents, in order. Their texts are empty after `--no-texts`."""
        return self.dir.read_documents()

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group of each test document by its id; empty if the folder holds no documents."""
        return {document.id: document.group for document in self.documents}

    @cached_property
    def baselines(self) -> dict[str, list[Prediction]]:
        """Predictions of the sentence baselines, by name."""
        return self.dir.read_baselines()

    @cached_property
    def outside(self) -> dict[str, list[Prediction]]:
        """Predictions of the outside systems that the study compares, by name."""
        return self.dir.read_outside(None if self.spec is None else set(self.spec.predictions))


@dataclass(frozen=True)
class StudyDir:
    """A study folder."""

    path: Path

    @cached_property
    def covered(self) -> CoveredFolder:
        """The files of the folder with their digests."""
        return CoveredFolder(self.path)

    def run_dir(self, name: str) -> RunDir:
        """The folder of the run `name`, whether it exists or not."""
        return RunDir(self.path / "runs" / name)

    def attempt_dir(self, run: str, number: int | str) -> RunDir:
        """The folder of one attempt at a run of a shared study."""
        return RunDir(self.path / ATTEMPTS / f"{run}.{number}")

    def logs_in_progress(self) -> dict[str, Path]:
        """Run without a record -> the event log that was written to last, of the run itself or of an attempt at it.

        A run that was interrupted has a record. If it goes on, its log is newer.
        """
        found: dict[str, tuple[float, Path]] = {}
        for folder in ("runs", ATTEMPTS):
            for name in self._names_in(folder):
                run = name if folder == "runs" else name.rpartition(".")[0]
                log = RunDir(self.path / folder / name).events
                try:
                    changed, record = log.stat().st_mtime, self.run_dir(run).record_version()
                    if record is not None and changed < record[0] / 1e9 + _LAST_EVENTS_SECONDS:
                        continue
                except OSError:  # no log yet, or a folder that was just renamed
                    continue
                if run not in found or found[run][0] < changed:
                    found[run] = (changed, log)
        return {run: log for run, (_, log) in sorted(found.items())}

    @property
    def slurm(self) -> Path:
        """Folder of the logs of workers that SLURM started."""
        return self.path / SLURM

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"

    @property
    def rating_page(self) -> Path:
        """The page for blind ratings."""
        return self.path / "rating.html"

    @property
    def figures(self) -> Path:
        """Folder of the charts."""
        return self.path / "figures"

    def ratings(self) -> list[Path]:
        """Files of ratings that people saved in the folder. Raises `UserError` for a link that leaves it."""
        found = sorted(self.path.glob("ratings*.json"))
        for path in found:
            check_inside(self.path, path)
        return found

    def is_study(self) -> bool:
        """Whether the folder has a `study.json`."""
        return (self.path / "study.json").exists()

    def is_begun(self) -> bool:
        """Whether a study was begun here, perhaps by a process that was killed in its first second."""
        return any((self.path / name).exists() for name in (LOCK_FILE, MANIFEST, "study.json", "plan.json", "runs"))

    def is_shared(self) -> bool:
        """Whether other machines may carry out runs here. A damaged `work.json` does not end that."""
        return (self.path / "work.json").exists() or (self.path / CLAIMS).exists()

    def has_foreign_files(self) -> bool:
        """Whether the folder holds anything that tuneoff does not write at the start of a study."""
        own = {LOCK_FILE} | _OWN_FILES | _OWN_OUTPUTS | _OWN_FOLDERS
        return self.path.is_dir() and any(
            entry.name not in own and not entry.name.startswith(TEMPORARY_PREFIX) for entry in self.path.iterdir()
        )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, which is made if it is missing; remove temporary files of a process that was killed.

        Raises `UserError` if another process holds it, or as `check_links` does.
        """
        with study_lock(self.path):
            self.check_links()
            remove_temporary_files(folder for folder in (self.path, *self._folders()) if folder.is_dir())
            yield
            with contextlib.suppress(OSError, UserError):
                self.covered.settle()

    def check_links(self) -> None:
        """Raise `UserError` if a folder inside this one is a link: writing there would change files elsewhere."""
        check_own_folders(self._named_folders())

    def _named_folders(self) -> list[Path]:
        return [self.path / name for name in sorted(_OWN_FOLDERS)]

    def _folders(self) -> list[Path]:
        """Every folder inside this one that tuneoff writes to."""
        runs = sorted((self.path / "runs").glob("*"))
        return [*self._named_folders(), *runs, *(RunDir(run).artefact for run in runs)]

    def check_writable(self) -> None:
        """Raise `UserError` unless the nearest existing folder takes new files. Leaves nothing behind."""
        existing = self.path.absolute()
        while not existing.exists():
            if existing.is_symlink():
                raise UserError(f"{existing}: is a link to what does not exist; choose another --output")
            existing = existing.parent
        if not existing.is_dir():
            raise UserError(f"{existing}: is a file, not a folder; choose another --output")
        try:
            handle, name = tempfile.mkstemp(dir=existing, prefix=TEMPORARY_PREFIX)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another --output") from error
        os.close(handle)
        Path(name).unlink()

    def read_spec(self) -> StudySpec | None:
        """`study.json`; None without one."""
        return self._read_json("study.json", StudySpec, "choose another --output")

    def write_spec(self, spec: StudySpec) -> None:
        """Write `study.json`, without paths of this machine."""
        self._write_json("study.json", spec.without_paths())

    def read_plan(self) -> PlanFile | None:
        """`plan.json`; None without one."""
        way_out = "delete it to judge every run of the folder, or choose another --output"
        return self._read_json("plan.json", PlanFile, way_out)

    def write_plan(self, plan: PlanFile) -> None:
        """Write `plan.json`."""
        self._write_json("plan.json", plan.model_dump(mode="json", exclude_none=True))

    def read_data(self) -> DataFile | None:
        """`data.json`; None without one."""
        return self._read_json("data.json", DataFile, _RUN_AGAIN)

    def write_data(self, data: DataFile) -> None:
        """Write `data.json`."""
        self._write_json("data.json", data)

    def read_budget(self) -> BudgetFile | None:
        """`budget.json`; None without one."""
        return self._read_json("budget.json", BudgetFile, "delete it to plan again, or choose another --output")

    def has_lost_budget(self) -> bool:
        """Whether a `budget.json` was written here that is now damaged or missing."""
        if any((self.path / DAMAGED).glob("budget.json-*")):
            return not (self.path / "budget.json").exists()
        try:
            known = "budget.json" in self.covered.files
        except UserError:
            return False
        try:
            return known and self.read_budget() is None
        except UserError:
            return True

    def write_budget(self, budget: BudgetFile) -> None:
        """Write `budget.json`."""
        self._write_json("budget.json", budget)

    def read_work(self) -> WorkFile | None:
        """`work.json`; None for a study that is not shared."""
        return self._read_json("work.json", WorkFile, "start `tuneoff compare` with --engine shared again")

    def write_work(self, work: WorkFile) -> None:
        """Write `work.json`."""
        self._write_json("work.json", work)

    def end_sharing(self) -> None:
        """Remove what machines that take part in the study need, once every run has ended."""
        self.covered.update({}, ("work.json",))
        (self.path / "work.json").unlink(missing_ok=True)
        self._keep_results_of_attempts()
        for name in (CLAIMS, ATTEMPTS):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _keep_results_of_attempts(self) -> None:
        """A worker that is stopped between two renames leaves the result of a run there."""
        for name in self._names_in(ATTEMPTS):
            attempt, run = RunDir(self.path / ATTEMPTS / name), self.run_dir(name.rpartition(".")[0])
            with contextlib.suppress(OSError, UserError):
                if not run.path.exists() and attempt.has_record() and attempt.read_record().ended:
                    attempt.path.rename(run.path)

    def read_search(self) -> SearchFile | None:
        """`search.json`; None without one."""
        return self._read_json("search.json", SearchFile, _RUN_AGAIN)

    def write_search(self, search: SearchFile) -> None:
        """Write `search.json`."""
        self._write_json("search.json", search)

    def read_documents(self) -> list[Document]:
        """The test documents, empty without `documents.jsonl`."""
        return self._read_rows("documents.jsonl", Document)

    def write_documents(self, documents: Iterable[Document]) -> None:
        """Write `documents.jsonl`."""
        self.covered.write("documents.jsonl", jsonl_text(documents))

    def read_baselines(self) -> dict[str, list[Prediction]]:
        """Predictions of the sentence baselines, by name."""
        return {name: self._read_rows(f"baselines/{name}.jsonl", Prediction) for name in self._rows_in("baselines")}

    def write_baselines(self, rows: Mapping[str, Iterable[Prediction]]) -> None:
        """Write `baselines/<name>.jsonl`."""
        for name, predictions in rows.items():
            self.covered.write(f"baselines/{name}.jsonl", jsonl_text(predictions))

    def read_outside(self, names: set[str] | None = None) -> dict[str, list[Prediction]]:
        """Predictions of outside systems by name. `names`: only these; None: all that the folder holds."""
        found = [name for name in self._rows_in("outside") if names is None or name in names]
        return {name: self._read_rows(f"outside/{name}.jsonl", Prediction) for name in found}

    def write_outside(self, rows: Mapping[str, Iterable[Prediction]]) -> None:
        """Write `outside/<name>.jsonl`."""
        for name, predictions in rows.items():
            self.covered.write(f"outside/{name}.jsonl", jsonl_text(predictions))

    def unreadable(self) -> Iterator[Path]:
        """The JSON files of the study that cannot be read. Raises `LaterVersion` for one of a later version."""
        reads = {
            "study.json": self.read_spec,
            "plan.json": self.read_plan,
            "data.json": self.read_data,
            "budget.json": self.read_budget,
            "search.json": self.read_search,
            "work.json": self.read_work,
        }
        for name, read in reads.items():
            try:
                read()
            except LaterVersion:
                raise
            except UserError:
                yield self.path / name

    def _rows_in(self, folder: str) -> list[str]:
        """Names of the files of predictions in a folder, those that are gone included."""
        there = _checked_names(self.path / folder, [path.name for path in (self.path / folder).glob("*.jsonl")])
        known = {name.removeprefix(f"{folder}/") for name in self.covered.files if name.startswith(f"{folder}/")}
        return sorted(name.removesuffix(".jsonl") for name in known.union(there))

    def _read_json(self, name: str, model: type[Model], way_out: str) -> Model | None:
        data = self.covered.read(name)
        return None if data is None else parse_json(data, self.path / name, model, way_out)

    def _write_json(self, name: str, value: BaseModel | dict[str, Any]) -> None:
        self.covered.write(name, json_text(value))

    def _read_rows(self, name: str, model: type[Model]) -> list[Model]:
        data = self.covered.read(name)
        rows = [] if data is None else parse_jsonl(data, self.path / name, model)
        check_unique(rows, self.path / name)
        return rows

    def write_summary(self, summary: Summary) -> None:
        """Write `summary.json`."""
        (self.path / OUTPUTS).unlink(missing_ok=True)  # until all that follows is written
        write_text_atomic(self.path / "summary.json", json_text(summary))

    def write_page(self, path: Path, text: str) -> None:
        """Write one of the pages of the study, `report` or `rating_page`."""
        write_text_atomic(path, text)

    def cover_outputs(self) -> None:
        """Write the digests of summary, pages and pictures, which another process than the study's may write."""
        paths = [self.path / "summary.json", self.report, self.rating_page, *sorted(self.figures.glob("*"))]
        files = {
            path.relative_to(self.path).as_posix(): entry_of_file(path).model_copy(update={"modified_ns": None})
            for path in paths
            if path.is_file() and not path.name.startswith(".")
        }
        write_text_atomic(self.path / OUTPUTS, manifest_text(Manifest(files=files)))

    def outputs(self) -> dict[str, FileEntry] | None:
        """The digests that `cover_outputs` wrote; None without them, or if they are damaged."""
        path = self.path / OUTPUTS
        try:
            return dict(read_manifest(path).files)
        except (OSError, UserError):
            return None

    def run_files(self, name: str) -> dict[str, FileEntry]:
        """The entries of the study's manifest for one run, by paths relative to its folder."""
        return dict(self.covered.files_by_folder("runs").get(name, {}))

    def cover_runs(self, names: Iterable[str]) -> None:
        """Enter the files of runs that have ended into the study's manifest."""
        found: dict[str, FileEntry] = {}
        for name in names:
            run = self.run_dir(name)
            if run.has_record() and (files := run.covered.files):
                found |= {f"runs/{name}/{file}": entry for file, entry in files.items()}
                found[f"runs/{name}/{MANIFEST}"] = entry_of_file(run.path / MANIFEST).model_copy(
                    update={"modified_ns": None}
                )
        if found:
            self.covered.update(found)

    def forget_runs(self, names: Iterable[str]) -> None:
        """Take runs that will be done again out of the study's manifest, before anything in their folders changes."""
        by_run = self.covered.files_by_folder("runs")
        known = tuple(f"runs/{name}/{file}" for name in names for file in by_run.get(name, ()))
        if known:
            self.covered.update({}, known)

    def _check_run(self, name: str) -> None:
        """Raise `UserError` if a run is not the one that the study's manifest describes."""
        run, files = self.run_dir(name), self.run_files(name)
        # A run of an earlier version has no manifest of its own.
        own = [MANIFEST] if MANIFEST in files else [file for file in files if not file.startswith("artefact/")]
        if run.has_record() and all(self.covered.read(f"runs/{name}/{file}") is not None for file in own):
            return
        if self.run_files(name) == files:  # otherwise the run is being done again by another process
            missing = run.path / RECORD if run.path.is_dir() else run.path
            raise UserError(f"{missing}: missing; {RUN_AGAIN}")

    def run_dirs(self) -> list[RunDir]:
        """Every run folder with a record, by name, whether the run belongs to the study or not."""
        return [run for run in map(self.run_dir, self._names_in("runs")) if run.has_record()]

    def _names_in(self, folder: str) -> list[str]:
        """What is in a folder of the study, sorted; nothing without it.

        Raises `UserError` for a link that leaves the study, and for a name that is not UTF-8.
        """
        path = self.path / folder
        check_inside(self.path, path)
        try:
            with os.scandir(path) as entries:  # a study may have 10,000 runs, and every worker lists them
                links = {entry.name: entry.is_symlink() for entry in entries}
        except OSError:
            return []
        names = _checked_names(path, sorted(links))
        for name in names:
            if links[name]:
                check_inside(self.path, path / name)
        return names

    def read_runs(
        self,
        *,
        names: Collection[str] | None = None,
        skip_damaged: bool = False,
        known: Iterable[StoredRun] = (),
    ) -> list[StoredRun]:
        """The runs in the folders `names` (None: in every folder), by name.

        `known`: runs that were read before; of these, only changed records are read again. `skip_damaged`: leave out
        records that cannot be read. Otherwise raises `UserError` for them.
        """
        before = {run.name: run for run in known}
        found = []
        if not skip_damaged:
            listed = set(self.covered.files_by_folder("runs"))
            for name in sorted(listed if names is None else listed & set(names)):
                self._check_run(name)
        for folder in self.run_dirs():
            if names is not None and folder.name not in names:
                continue
            version, same = folder.record_version(), before.get(folder.name)
            if same is not None and version is not None and same.version == version:
                found.append(same)
                continue
            try:
                found.append(StoredRun(folder, folder.read_record(), version))
            except LaterVersion:
                raise
            except UserError:
                if not skip_damaged:
                    raise
        return found

    def load(self, runs: Iterable[StoredRun] | None = None) -> StoredStudy:
        """Read the folder once. `runs`: all runs of the folder, if they were read before.

        Raises `UserError` for a damaged file.
        """
        spec, plan = self.read_spec(), self.read_plan() or PlanFile()
        planned = None if plan.runs is None else set(plan.runs)
        if runs is None:
            own = self.read_runs(names=planned)  # a damaged record of another choice of methods does not matter
        else:
            own = sorted((run for run in runs if planned is None or run.name in planned), key=lambda run: run.name)
        budget: BudgetFile | UserError | None
        try:
            budget = self.read_budget()
        except UserError as error:
            budget = error  # a damaged plan takes nothing away from the results
        search = self.read_search() if spec is None or spec.trials else None  # it may belong to an earlier plan
        return StoredStudy(self, spec, plan, self.read_data() or DataFile(), budget, search, tuple(own))


def _checked_names(folder: Path, names: list[str]) -> list[str]:
    """The same names. They are written into files, which hold UTF-8."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{folder / name!r}: its name is not UTF-8; rename it, or remove it") from error
    return names


def free_folder(folder: Path) -> Path:
    """`folder` if nothing is there; else the first of `folder`-2, `folder`-3 ... that is free."""
    number, free = 1, folder
    while free.exists() or free.is_symlink():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
