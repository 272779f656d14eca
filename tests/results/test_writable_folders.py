"""A folder of a stranger is written to only where that changes nothing elsewhere and blocks nobody."""

import os
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.writable_folders import check_no_link_between, check_own_folders


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of tuneoff beside a folder of somebody else."""
    for name in ("own/run/artefact", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / "file").write_text("mine")
    return tmp_path / "own"


@pytest.mark.parametrize("name", ["run/linked", "run/artefact/deep", "linked"])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere", "/dev/null"])
def test_a_link_to_anything_but_a_file_is_refused(own: Path, name: str, target: str) -> None:
    (own / name).symlink_to(own.parent / target)
    with pytest.raises(UserError, match=rf"{name}: a link, and tuneoff writes only inside"):
        check_own_folders([own])


@pytest.mark.parametrize("name", ["log.txt", "events.jsonl", "12_0.log"])
def test_a_log_has_no_other_name(own: Path, name: str) -> None:
    (own / "run" / name).symlink_to(own.parent / "elsewhere" / "file")
    with pytest.raises(UserError, match=rf"{name}: a link"):
        check_own_folders([own])
    (own / "run" / name).unlink()
    os.link(own.parent / "elsewhere" / "file", own / "run" / name)
    with pytest.raises(UserError, match=rf"{name}: has another name elsewhere"):
        check_own_folders([own])


def test_a_pipe_is_refused(own: Path) -> None:
    os.mkfifo(own / "run" / "log.txt")
    with pytest.raises(UserError, match=r"log\.txt: a pipe or device"):
        check_own_folders([own])


def test_files_and_links_to_files_are_left_alone(own: Path) -> None:
    (own / "run" / "log.txt").write_text("")
    (own / "run" / "artefact" / "weights").symlink_to(own.parent / "elsewhere" / "file")
    check_own_folders([own, own.parent / "missing", own / "run" / "log.txt"])


def test_a_link_on_the_way_to_a_file_is_refused(own: Path) -> None:
    (own / "linked").symlink_to(own.parent / "elsewhere")
    (own / "file").symlink_to(own.parent / "elsewhere" / "file")
    with pytest.raises(UserError, match=r"linked: a link"):
        check_no_link_between(own, own / "linked" / "deep" / "file")
    check_no_link_between(own, own / "file")
