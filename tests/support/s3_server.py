"""moto's S3 server, in a thread of this process, which can be stopped and started again."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

BUCKET = "bucket"


class S3Server:
    """A server on this machine. What it holds survives that it is stopped."""

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


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server while a test lasts, which is skipped without the packages that are needed."""
    pytest.importorskip("moto", reason="a store to test with")
    pytest.importorskip("s3fs", reason="the extra `store`")
    server = S3Server()
    try:
        yield server
    finally:
        server.stop()


def use_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `s3://bucket/...` be on the server, for this process and those that it starts."""
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
    s3fs.S3FileSystem(skip_instance_cache=True).makedirs(BUCKET, exist_ok=True)
