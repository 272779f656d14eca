"""Soft prompt tuning with the settings of the coursework.

The same code as `tuneoff train soft_prompt`; `--help` lists the flags.
"""

import sys

from tuneoff.cli.coursework import main

if __name__ == "__main__":
    sys.exit(main("soft_prompt"))
