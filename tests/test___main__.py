"""`python -m tuneoff` is the command line."""

import subprocess
import sys

import tuneoff


def test_the_package_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "tuneoff", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tuneoff {tuneoff.__version__}\n", "")
    wrong = subprocess.run([sys.executable, "-m", "tuneoff", "no-such-command"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
