"""The baseline: the pretrained model with the bare prompt, nothing tuned.

The same code as `tuneoff train zero_shot`; `--help` lists the flags.
"""

import sys

from tuneoff.cli.coursework import run_program

if __name__ == "__main__":
    sys.exit(run_program("zero_shot"))
