"""A study in an object store: whole at any moment, whatever fails, and the same as the folder in the end."""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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


class Server:
    """An S3 server of this process. What it holds survives that it is stopped."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._make = lambda port: ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server: Any = None
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = self._make(self.port)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    pytest.importorskip("moto", reason="a store to test with")
    pytest.importorskip("s3fs", reason="the extra `store`")
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = running
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",  # boto asks a server that is away several times, for seconds
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem(skip_instance_cache=True).makedirs("bucket", exist_ok=True)
    return server


def test_the_server_is_restarted_in_the_middle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_store_that_stays_away_is_an_error_and_nothing_is_lost(server: Server) -> None:
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


def lose(server: Server, folder: Path) -> None:
    add_runs(folder, 0, 1)
    server.stop()


def test_a_store_that_is_away_at_the_start_is_one_sentence(server: Server) -> None:
    server.stop()
    with (
        pytest.raises(UserError, match=r"s3://bucket/away: the store cannot be read .*; check its address"),
        mirrored("s3://bucket/away", print, patience=0.1),
    ):
        pass
    server.start()


def until(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)
