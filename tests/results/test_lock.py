import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results import lock
from tuneoff.results.lock import study_lock

HOST = socket.gethostname()
HOLDER = """
import sys, time
from pathlib import Path
from tuneoff.results.lock import study_lock
with study_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_start_is_refused_and_told_who_works_there(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(UserError, match=f"process {process.pid} on {HOST} is working in this folder"),
            study_lock(tmp_path),
        ):
            pass
    finally:
        process.kill()
        process.communicate()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / lock.LOCK_FILE).read_text() == f"{process.pid} {HOST}\n"
    with study_lock(tmp_path):
        assert (tmp_path / lock.LOCK_FILE).read_text() == f"{os.getpid()} {HOST}\n"


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    with study_lock(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        with study_lock(tmp_path):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_one_process_cannot_take_it_twice_but_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "study"
    with study_lock(folder), pytest.raises(UserError, match="is working in this folder"), study_lock(folder):
        pass
    with study_lock(folder):
        pass


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"), study_lock(tmp_path / "file" / "study"):
        pass


def test_a_file_system_without_locks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", refuse)
    with pytest.raises(UserError, match="no locks"), study_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("text", "who"),
    [
        (f"12 {HOST}\n", f"process 12 on {HOST}"),
        ("12 other.host\n", "process 12 on other.host"),
        ("12\n", "process 12"),
        ("\x1b[2J\n", "another process"),
        ("12 \x1b[2J\n", "process 12 on ?[2J"),
    ],
)
def test_the_holder_is_named_with_its_host(text: str, who: str) -> None:
    assert lock._holder(text) == who


def test_a_link_in_place_of_the_lock_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / lock.LOCK_FILE).symlink_to(target)
    with pytest.raises(UserError, match=r"\.lock: a link"), study_lock(tmp_path / "study"):
        pass
    assert target.read_text() == "precious"


def test_a_file_of_two_names_in_place_of_the_lock_is_not_emptied(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "study").mkdir()
    os.link(target, tmp_path / "study" / lock.LOCK_FILE)
    with pytest.raises(UserError, match=r"\.lock: another name of a file elsewhere"), study_lock(tmp_path / "study"):
        pass
    assert target.read_text() == "precious"
    target.write_text("12 host\n")  # a copy of a folder that shares its files
    with study_lock(tmp_path / "study"):
        pass


def test_a_pipe_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / lock.LOCK_FILE)
    with pytest.raises(UserError, match=r"\.lock: a pipe or device"), study_lock(tmp_path):
        pass
