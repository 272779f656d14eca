"""`python -m tuneoff` is the command line."""

import re
import subprocess
import sys

import tuneoff


def test_the_package_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "tuneoff", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"tuneoff {re.escape(tuneoff.__version__)}( \([0-9a-f]{{12}}\))?\n", done.stdout)
    wrong = subprocess.run([sys.executable, "-m", "tuneoff", "no-such-command"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
