"""The program dies, or a disk is full, at any file operation of a study; then the same command is given again."""

import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.fake_executor import FakeExecutor
from support.file_operations import Fault, Outcome, in_fork
from tuneoff.api import Study
from tuneoff.report import figures, page
from tuneoff.report.pictures import Pictures
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.verification import verify
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study.executor import SilentObserver
from tuneoff.study.runner import carry_out_study, prepare
from tuneoff.verdict.summarize import summarize

Choose = Callable[[list[int], int], list[int]]


@dataclass(frozen=True)
class Undisturbed:
    """A study in `folder`, which it can be carried out in again; what it leaves, and its number of operations."""

    spec: StudySpec
    folder: Path
    scratch: Path
    contents: dict[str, bytes]
    operations: int

    def start(self, fault: Fault | None = None) -> Outcome:
        """Give the command, in a process of its own."""
        return in_fork(lambda: compare(self.spec, self.folder), self.folder, self.scratch, fault)


def compare(spec: StudySpec, folder: Path) -> None:
    """What `tuneoff compare` does, from the folder to the report, with runs that train nothing."""
    prepared = prepare(spec, folder)
    executor = FakeExecutor([example.id for example in prepared.inputs.dataset.test])
    stored = carry_out_study(prepared, executor, SilentObserver())
    Study(stored, summarize(stored)).write_report()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a study but its lock, and its manifests, which hold times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", MANIFEST)
    }


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Undisturbed]:
    spec = StudySpec(
        name="mine",
        models=(ModelSpec(name=str(tiny_model("gpt_neo"))),),
        methods=("few_shot", "lora"),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        prompt=PromptSpec(max_length=128),
        trials=2,
    )
    scratch = tmp_path_factory.mktemp("scratch")
    folder = tmp_path_factory.mktemp("studies") / "study"
    with pytest.MonkeyPatch.context() as patch:
        # Drawing takes a second and changes as many files as this does.
        patch.setattr(figures, "save_charts", lambda *_arguments: Pictures((), None))
        patch.setattr(page, "study_charts", lambda *_arguments, **_named: [])
        patch.setattr(page, "_page", lambda *_arguments, **_named: "a page")
        compare(spec, folder)  # imports what is imported late, once for all forks
        shutil.rmtree(folder)
        start = in_fork(lambda: compare(spec, folder), folder, scratch)
        assert start.code == 0, start.output
        found = contents(folder)
        shutil.rmtree(folder)
        yield Undisturbed(spec, folder, scratch, found, len(start.operations))


@pytest.mark.filterwarnings("error")  # what a killed process leaves is not reported as damage
@pytest.mark.parametrize("fault", ["death", "full disk"])
def test_the_same_command_ends_as_if_nothing_had_happened(
    undisturbed: Undisturbed, some_of: Choose, fault: str
) -> None:
    number = errno.ENOSPC if fault == "full disk" else None
    for at in some_of(list(range(1, undisturbed.operations + 1)), 4):
        first = undisturbed.start(Fault(at, number))
        where = f"{fault} at operation {at}, {first.operations[-1]}"
        if number is None:
            assert first.code == -9, where
        again = undisturbed.start()
        assert again.code == 0, f"{where}: {again.output}"
        assert contents(undisturbed.folder) == undisturbed.contents, where
        files = list(verify(undisturbed.folder))
        assert {file.state for file in files if file.path != ".lock"} == {"whole"}, where
        shutil.rmtree(undisturbed.folder)
