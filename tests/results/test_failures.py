"""What a library says when it ends a run stands in a sentence of ours."""

import errno
import re
from pathlib import Path

import pytest

from tuneoff.results.failures import failure_of

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})  # torch's, which is not loaded here


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_memory_that_runs_out_says_what_to_make_smaller(error: Exception) -> None:
    message = failure_of(error, "train").message
    assert message.startswith("memory ran out in phase train; use a smaller --micro-batch-tokens")


def test_a_full_disk_says_where() -> None:
    message = failure_of(OSError(errno.ENOSPC, "No space left on device", "/data/model.safetensors"), "save").message
    assert message == (
        "the disk was full in phase save (/data/model.safetensors); free some space, then run the same command again"
    )


def test_a_limit_on_files_says_how_to_raise_it() -> None:
    message = failure_of(OSError(errno.EFBIG, "File too large", "/data/model.safetensors"), "save").message
    assert message == (
        "a file was larger in phase save than the shell or the file system allows (/data/model.safetensors); raise the "
        "limit (ulimit -f), then run the same command again"
    )


def test_figures_stand_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the disk, also if the file was not even begun; and of the process' limit."""
    path = tmp_path / "model.safetensors"
    found = failure_of(OSError(errno.ENOSPC, "No space left on device", str(path)), "save").message
    assert re.search(rf"\({path}, [\d,]+ bytes are free\)", found)
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (600, 600))
    found = failure_of(OSError(errno.EFBIG, "File too large", str(path)), "save").message
    assert f"({path}, the limit is 600 bytes)" in found


@pytest.mark.parametrize(
    ("error", "phase", "message"),
    [
        (
            IndexError("index out of\n range in self"),
            "train",
            "in phase train (IndexError: index out of range in self);",
        ),
        (KeyError(), None, "before the first phase (KeyError);"),
        (ValueError("x" * 999), "load", f"in phase load (ValueError: {'x' * 300}...);"),
    ],
)
def test_other_errors_are_quoted_on_one_line(error: Exception, phase: str | None, message: str) -> None:
    found = failure_of(error, phase)
    assert found.message == f"an error {message} the record of the run has the traceback"
    assert type(error).__name__ in (found.traceback or "")
