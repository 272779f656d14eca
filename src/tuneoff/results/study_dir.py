"""The one owner of study folders: every path, every read and every write. `run_dir` does the same for run folders.

A study folder holds:

    study.json        the `StudySpec`
    plan.json         hashes of the contents, and the runs that belong to the study
    data.json         counts of examples, and what cleaning did
    budget.json       the plan that fits the study into its time limit
    search.json       the trials and the chosen settings
    documents.jsonl   the test examples
    baselines/, outside/    predictions of sentence baselines and of outside systems
    runs/<name>-<id>/       one folder for each run
    summary.json, report.html, rating.html, figures/    what the study found
"""

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.results.json_files import (
    TEMPORARY_PREFIX,
    read_json,
    read_jsonl,
    remove_temporary_files,
    write_json,
    write_jsonl,
    write_text_atomic,
)
from tuneoff.results.lock import LOCK_FILE, study_lock
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Document, Prediction, Record
from tuneoff.results.study_state import BudgetFile, DataFile, PlanFile, SearchFile
from tuneoff.results.summary import Summary
from tuneoff.spec import StudySpec

_RUN_AGAIN = "restore it or run the study again"


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

        If a trial was interrupted, the final runs of its method are not even planned.
        """
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

    def run_dir(self, name: str) -> RunDir:
        """The folder of the run `name`, whether it exists or not."""
        return RunDir(self.path / "runs" / name)

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
        """Files of ratings that people saved in the folder."""
        return sorted(self.path.glob("ratings*.json"))

    def is_study(self) -> bool:
        """Whether the folder has a `study.json`."""
        return (self.path / "study.json").exists()

    def has_foreign_files(self) -> bool:
        """Whether the folder holds anything besides the lock and temporary files of a start that was interrupted."""
        return self.path.is_dir() and any(
            entry.name != LOCK_FILE and not entry.name.startswith(TEMPORARY_PREFIX) for entry in self.path.iterdir()
        )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, which is made if it is missing; remove temporary files of a process that was killed.

        Raises `UserError` if another process holds it, or if a folder inside it is a link: what is written there would
        change files elsewhere.
        """
        with study_lock(self.path):
            folders = self._folders()
            link = next((folder for folder in folders if folder.is_symlink()), None)
            if link is not None:
                raise UserError(f"{link}: a link, and tuneoff writes only inside a study's own folder; remove it")
            remove_temporary_files(folder for folder in (self.path, *folders) if folder.is_dir())
            yield

    def _folders(self) -> list[Path]:
        """Every folder inside this one that tuneoff writes to, and every log that it appends to."""
        runs = sorted((self.path / "runs").glob("*"))
        own = [RunDir(run) for run in runs]
        named = [self.path / name for name in ("runs", "baselines", "outside", "figures")]
        return [*named, *runs, *(path for run in own for path in (run.artefact, run.events, run.log))]

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
        return read_json(self.path / "study.json", StudySpec, "choose another --output")

    def write_spec(self, spec: StudySpec) -> None:
        """Write `study.json`, without paths of this machine."""
        write_json(self.path / "study.json", spec.without_paths())

    def read_plan(self) -> PlanFile | None:
        """`plan.json`; None without one."""
        way_out = "delete it to judge every run of the folder, or choose another --output"
        return read_json(self.path / "plan.json", PlanFile, way_out)

    def write_plan(self, plan: PlanFile) -> None:
        """Write `plan.json`."""
        write_text = plan.model_dump(mode="json", exclude_none=True)
        write_json(self.path / "plan.json", write_text)

    def read_data(self) -> DataFile | None:
        """`data.json`; None without one."""
        return read_json(self.path / "data.json", DataFile, _RUN_AGAIN)

    def write_data(self, data: DataFile) -> None:
        """Write `data.json`."""
        write_json(self.path / "data.json", data)

    def read_budget(self) -> BudgetFile | None:
        """`budget.json`; None without one."""
        return read_json(self.path / "budget.json", BudgetFile, "delete it to plan again, or choose another --output")

    def write_budget(self, budget: BudgetFile) -> None:
        """Write `budget.json`."""
        write_json(self.path / "budget.json", budget)

    def read_search(self) -> SearchFile | None:
        """`search.json`; None without one."""
        return read_json(self.path / "search.json", SearchFile, _RUN_AGAIN)

    def write_search(self, search: SearchFile) -> None:
        """Write `search.json`."""
        write_json(self.path / "search.json", search)

    def read_documents(self) -> list[Document]:
        """The test documents, empty without `documents.jsonl`."""
        return read_jsonl(self.path / "documents.jsonl", Document)

    def write_documents(self, documents: Iterable[Document]) -> None:
        """Write `documents.jsonl`."""
        write_jsonl(self.path / "documents.jsonl", documents)

    def read_baselines(self) -> dict[str, list[Prediction]]:
        """Predictions of the sentence baselines, by name."""
        return {path.stem: read_jsonl(path, Prediction) for path in sorted((self.path / "baselines").glob("*.jsonl"))}

    def write_baselines(self, rows: Mapping[str, Iterable[Prediction]]) -> None:
        """Write `baselines/<name>.jsonl`."""
        for name, predictions in rows.items():
            write_jsonl(self.path / "baselines" / f"{name}.jsonl", predictions)

    def read_outside(self, names: set[str] | None = None) -> dict[str, list[Prediction]]:
        """Predictions of outside systems by name. `names`: only these; None: all that the folder holds."""
        paths = sorted((self.path / "outside").glob("*.jsonl"))
        return {path.stem: read_jsonl(path, Prediction) for path in paths if names is None or path.stem in names}

    def write_outside(self, rows: Mapping[str, Iterable[Prediction]]) -> None:
        """Write `outside/<name>.jsonl`."""
        for name, predictions in rows.items():
            write_jsonl(self.path / "outside" / f"{name}.jsonl", predictions)

    def write_summary(self, summary: Summary) -> None:
        """Write `summary.json`."""
        write_json(self.path / "summary.json", summary)

    def write_page(self, path: Path, text: str) -> None:
        """Write one of the pages of the study, `report` or `rating_page`."""
        write_text_atomic(path, text)

    def run_dirs(self) -> list[RunDir]:
        """Every run folder with a record, by name, whether the run belongs to the study or not."""
        return [RunDir(path.parent) for path in sorted((self.path / "runs").glob("*/record.json"))]

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
        for folder in self.run_dirs():
            if names is not None and folder.name not in names:
                continue
            version, same = folder.record_version(), before.get(folder.name)
            if same is not None and version is not None and same.version == version:
                found.append(same)
                continue
            try:
                found.append(StoredRun(folder, folder.read_record(), version))
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
