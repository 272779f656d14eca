"""Errors of safetensors while it writes."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tuneoff.saved_tensors import saving

LIMITED = """
import resource, signal, sys
import numpy
from pathlib import Path
from safetensors.numpy import save_file
from tuneoff.saved_tensors import saving
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
path = Path(sys.argv[1])
try:
    with saving(path):
        save_file({"a": numpy.zeros(100_000)}, path)
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files")
def test_a_file_beyond_a_limit_has_its_number_and_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False)
    assert done.stdout == f"{errno.EFBIG} {path}\n", done.stderr


def test_other_errors_keep_their_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="strange") as raised, saving(tmp_path):
        raise SafetensorError("strange")
    assert raised.value.errno == errno.EIO
    with pytest.raises(KeyError), saving(tmp_path):
        raise KeyError
