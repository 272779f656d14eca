"""A study in an object store: whole at any moment, whatever fails, and the same as the folder in the end."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.engine_results import engine_differences
from support.s3_server import S3Server, s3_server, use_server
from support.stepping_executor import SteppingExecutor, jobs_in
from support.verdict_study import study_folder, write_spec
from tuneoff.cli import main
from tuneoff.errors import RunFailure, UserError
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.run_record import Document
from tuneoff.results.store import Mirror, Store, StoreIsAway, local_copy, mirrored, placed, restore, restored, url_of
from tuneoff.results.study_dir import STORE_FILE, StudyDir
from tuneoff.results.verification import verify
from tuneoff.study.executor import SilentObserver

pytest.importorskip("fsspec", reason="the extra `store`")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url() -> str:
    """A place in the memory of this process that no other test has."""
    return f"memory://{uuid.uuid4().hex}/study"


def add_runs(folder: Path, first: int, count: int) -> None:
    """Carry out runs, each with a record, predictions, an event log and a large artefact, and enter them."""
    jobs = jobs_in(folder, first + count)[first:]
    with SteppingExecutor(None) as executor:  # type: ignore[arg-type]
        for job in jobs:
            job.dir.path.mkdir(parents=True, exist_ok=True)
            job.dir.events.write_text("{}\n")
            list(executor.run([job], SilentObserver()))
    StudyDir(folder).cover_runs(job.dir.name for job in jobs)


def add_documents(folder: Path, text: str) -> None:
    StudyDir(folder).write_documents([Document(id="1", document=text, references=("r",), group="g")])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but those that belong to one copy of it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (STORE_FILE, ".lock")
    }


def is_whole(folder: Path) -> bool:
    return not [file for file in verify(folder) if file.state in ("damaged", "missing", "unknown")]


def notes() -> tuple[list[str], Callable[[str], None]]:
    said: list[str] = []
    return said, said.append


def test_a_study_is_the_same_on_another_machine(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, notify = notes()
    with mirrored(url, notify) as folder:
        add_documents(folder, "a document")
        add_runs(folder, 0, 2)
        before = contents(folder)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "another"))
    found = restored(url)
    assert found != folder
    assert contents(found) == before
    assert is_whole(found)
    assert said == []


def test_the_other_machine_continues_the_study(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, notify = notes()
    with mirrored(url, notify) as first:
        add_documents(first, "a document")
        add_runs(first, 0, 1)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "another"))
    with mirrored(url, notify) as second:
        add_documents(second, "another document")
        add_runs(second, 1, 1)
        after = contents(second)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    assert contents(restored(url)) == after
    assert is_whole(first)
    assert said == []


class Failing(Store):
    """A store that goes away after some requests that change something."""

    def __init__(self, url: str, requests: int) -> None:
        super().__init__(url)
        self._left = requests

    def _count(self) -> None:
        if self._left == 0:
            raise StoreIsAway("Test")
        self._left -= 1

    def write(self, name: str, data: bytes) -> None:
        self._count()
        super().write(name, data)

    def delete(self, name: str) -> None:
        self._count()
        super().delete(name)


def test_a_store_that_goes_away_at_any_request_holds_a_whole_study(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path / "study")
    add_documents(folder.path, "a document")
    folder.write_baselines({"lead": []})
    add_runs(folder.path, 0, 1)
    earlier = tmp_path / "earlier"
    shutil.copytree(folder.path, earlier)
    add_documents(folder.path, "another document")
    add_runs(folder.path, 1, 1)
    folder.covered.update({}, ("baselines/lead.jsonl",))
    (folder.path / "baselines" / "lead.jsonl").unlink()
    requests = 0
    while True:
        url = f"memory://{uuid.uuid4().hex}/study"
        begun = Mirror(StudyDir(earlier), Store(url), {})
        begun.push()
        known = restore(Store(url), StudyDir(tmp_path / f"before-{requests}"))
        mirror = Mirror(folder, Failing(url, requests), known)
        with contextlib.suppress(StoreIsAway):
            mirror.push()
        between = StudyDir(tmp_path / f"between-{requests}")
        restore(Store(url), between)
        assert is_whole(between.path)
        again = Mirror(folder, Store(url), restore(Store(url), StudyDir(tmp_path / f"again-{requests}")))
        again.push()
        after = StudyDir(tmp_path / f"after-{requests}")
        restore(Store(url), after)
        assert contents(after.path) == contents(folder.path)
        if not mirror.is_behind():
            break
        requests += 1
    assert requests >= 7  # each of them was the last one in a round


def test_runs_that_the_store_lacks_are_kept_and_copied(url: str) -> None:
    _, notify = notes()
    add_documents(local_copy(url), "a document")
    add_runs(local_copy(url), 0, 1)
    with mirrored(url, notify):
        pass
    assert any(name.endswith("/record.json") for name in Store(url).names())


def test_what_is_damaged_in_the_store_is_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirrored(url, notes()[1]) as folder:
        add_documents(folder, "a document")
        add_runs(folder, 0, 1)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "another"))
    store = Store(url)
    store.write("documents.jsonl", b"{}")
    with pytest.raises(UserError, match=r"study/documents\.jsonl: damaged; copy it there again"):
        restored(url)
    store.write(MANIFEST, b"{}")
    with pytest.raises(UserError, match=r"study/manifest\.json: damaged"):
        restored(url)


def test_a_name_that_leads_out_of_the_folder_is_not_followed(url: str, tmp_path: Path) -> None:
    store = Store(url)
    for name in ("..", ".hidden", "a b"):
        store.write(f"runs/{name}/record.json", b"{}")
    folder = StudyDir(tmp_path / "study")
    restore(store, folder)
    assert list((folder.path / "runs").glob("*")) == []


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_only_the_user_can_read_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    assert stat.S_IMODE(local_copy("s3://bucket/study").parent.stat().st_mode) == 0o700


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"cannot be made .*; set TUNEOFF_CACHE to another folder"):
        local_copy("s3://bucket/study")


def test_an_empty_store_is_no_study(url: str) -> None:
    with pytest.raises(UserError, match="contains no study; name the URL"):
        restored(url)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://", "a URL such as s3://bucket/study"),
        ("s3://key:secret@bucket/study", "a URL with credentials"),
        ("https://host/study?signature=secret", "a URL with credentials or parameters"),
        ("nosuch://bucket/study", "nosuch:// cannot be used"),
    ],
)
def test_mistakes_are_one_sentence_without_secrets(text: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        Store(text)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_urls_are_told_from_folders(tmp_path: Path) -> None:
    assert url_of("s3://bucket/study") == url_of(Path("s3://bucket/study")) == "s3://bucket/study"
    assert url_of(Path("file:///tmp/study")) == "file:///tmp/study"
    assert [url_of(each) for each in ("runs/study", "C:/study", Path("/s3/bucket"), tmp_path)] == [None] * 4
    with placed(tmp_path / "study", print) as folder:
        assert folder == tmp_path / "study"
    assert not folder.exists()


def test_commands_take_a_url(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = study_folder(tmp_path)
    write_spec(made)
    for run in StudyDir(made).run_dirs():
        run.write_record(run.read_record())  # again, with an entry for the predictions
    shutil.copytree(made, local_copy(url))
    with mirrored(url, notes()[1]) as folder:
        StudyDir(folder).cover_runs(path.name for path in (folder / "runs").iterdir())
    shutil.rmtree(folder)
    assert main(["judge", url]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert main(["judge", str(made)]) == 0
    assert shown[1:] == capsys.readouterr().out.splitlines()[1:]
    assert main(["report", url]) == 0
    assert "report.html" in Store(url).names()
    assert main(["verify", url]) == 0
    assert main(["judge", "memory://nothing/here"]) == 2
    assert "contains no study" in capsys.readouterr().err


# ---- a server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(running: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    use_server(running, monkeypatch)
    return running


def test_the_server_is_restarted_in_the_middle(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://bucket/{uuid.uuid4().hex}"
    said, notify = notes()
    with mirrored(url, notify, pause=0.05) as folder:
        add_documents(folder, "a document")
        add_runs(folder, 0, 1)
        until(lambda: MANIFEST in Store(url).names())
        server.stop()
        add_documents(folder, "another document")
        add_runs(folder, 1, 2)
        until(lambda: bool(said))
        server.start()
        add_runs(folder, 3, 1)
        before = contents(folder)
    assert [sentence.partition(": ")[2].split(";")[0].split("(")[0].strip() for sentence in said][:1] == [
        "the store is away"
    ]
    assert not any("secret" in sentence for sentence in said)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "another"))
    assert contents(restored(url)) == before


def test_a_store_that_stays_away_is_an_error_and_nothing_is_lost(server: S3Server) -> None:
    url = f"s3://bucket/{uuid.uuid4().hex}"
    with (
        pytest.raises(RunFailure, match="the store is away, and not everything could be copied"),
        mirrored(url, notes()[1], pause=60, patience=0.1) as folder,
    ):
        lose(server, folder)
    assert is_whole(folder)
    server.start()
    with mirrored(url, notes()[1]):
        pass
    assert any(name.endswith("/record.json") for name in Store(url).names())


def lose(server: S3Server, folder: Path) -> None:
    add_runs(folder, 0, 1)
    server.stop()


def test_a_store_that_is_away_at_the_start_is_one_sentence(server: S3Server) -> None:
    server.stop()
    with (
        pytest.raises(UserError, match=r"s3://bucket/away: the store cannot be read .*; check its address"),
        mirrored("s3://bucket/away", print, patience=0.1),
    ):
        pass
    server.start()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_command_goes_on_while_the_server_is_away(
    server: S3Server,
    tiny_model: Callable[[str], Path],
    tiny_data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is stopped when it has one run, and started again when the command has carried out another one."""
    url = f"s3://bucket/{uuid.uuid4().hex}"
    command = [
        *("compare", f"--model={tiny_model('llama')}"),
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        *("--methods=zero_shot,lora", "--seeds=3", "--trials=0", "--max-steps=60", "--epochs=20"),
        *("--max-length=128", "--max-new-tokens=4", "--precision=fp32", "--quiet"),
    ]
    local = tmp_path / "local"
    assert main([*command, f"--output={local}"]) == 0
    said = tmp_path / "said"
    with said.open("w") as stream:
        process = subprocess.Popen([sys.executable, "-m", "tuneoff", *command, f"--output={url}"], stderr=stream)
    store, folder = Store(url), local_copy(url)

    def records() -> int:
        return len(list(folder.glob("runs/*/record.json")))

    def is_away() -> bool:
        text = said.read_text()
        return text.count("the store is away") > text.count("the store is back")

    until(lambda: any(name.endswith("/record.json") for name in store.names()), 300)
    server.stop()
    try:
        until(is_away, 60)
        before = records()
        until(lambda: records() > before, 120)
        assert process.poll() is None
    finally:
        server.start()
    assert process.wait(300) == 0, said.read_text()
    assert engine_differences(local, folder) == [STORE_FILE]  # which belongs to a copy
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "another"))
    assert contents(restored(url)) == contents(folder)
    assert is_whole(restored(url))
    capsys.readouterr()
    assert main(["judge", url]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert main(["judge", str(folder)]) == 0
    assert shown[1:] == capsys.readouterr().out.splitlines()[1:]


def until(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)
