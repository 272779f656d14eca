"""The folder of temporary files is missing or full, at once or later: a study works, or says what to do."""

import errno
import os
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.file_operations import changed_path
from support.warm_command import Role
from support.warm_study import WarmStudy
from tuneoff import cli


@dataclass
class NoRoom:
    """From the file operation `at` on, nothing can be written below `folder`, which TMPDIR names.

    `alone`: there is no other folder for temporary files.
    """

    folder: Path
    at: int
    alone: bool
    count: int = 0

    def __call__(self, role: Role) -> None:
        tempfile.tempdir = None  # Python looks for a folder once in a process
        os.environ["TMPDIR"] = str(self.folder)
        if self.alone:
            vars(tempfile)["_candidate_tempdir_list"] = lambda: [str(self.folder)]
        if role == "parent":
            sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = changed_path(event, arguments)
        if event in ("os.remove", "os.rmdir") or path is None or not path.startswith(str(self.folder)):
            return
        self.count += 1
        if self.count >= self.at:
            raise OSError(errno.ENOSPC, "No space left on device", path)


def test_a_study_needs_no_temporary_file(warm_study: WarmStudy, full: bool, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing") if full else (tmp_path,):
        running = warm_study.command.carry_out(NoRoom(folder, 1, alone=True))
        assert running.code == 0, running.said
        assert not warm_study.faults(), warm_study.faults()
        warm_study.remove()


@pytest.fixture(scope="module")
def probed(full: bool, warm_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> WarmStudy:
    """A study that needs temporary files: its methods are measured first, and its prompts hold documents."""
    if not full:
        pytest.skip("one of the trials of `make faults`")
    flags = [*warm_flags, "--methods=few_shot,lora", "--trials=1", "--seeds=1", "--budget=1h", "--no-texts"]
    return WarmStudy.carried_out(flags, tmp_path_factory.mktemp("probed"))


def test_a_folder_that_is_full_is_said(probed: WarmStudy, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    draw, codes = random.Random(24 + seed), Counter[int | None]()
    for trial in range(40):
        fault = NoRoom(
            tmp_path_factory.mktemp("full"), draw.choice((1, draw.randint(2, 60))), alone=draw.random() < 0.8
        )
        running = probed.command.carry_out(fault)
        where = f"trial {trial}, {fault}: {running.code}, {running.said}"
        assert running.code in (cli.DONE, cli.FAILED, cli.USAGE, cli.SOME_FAILED), where
        assert "Traceback" not in running.said, where
        assert running.code == 0 or str(fault.folder) in running.said or "TMPDIR" in running.said, where
        last = probed.finished()
        assert last.code == 0, f"{where}, then {last.said}"
        assert not probed.faults(), f"{where}: {probed.faults()}"
        assert not list(fault.folder.iterdir()), where
        probed.remove()
        print(f"trial {trial}: {fault.at}, {fault.alone}, {running.code}", flush=True)
        codes[running.code] += 1
    print(dict(codes))
