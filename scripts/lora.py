"""LoRA with the settings of the coursework.

The same code as `tuneoff train lora`; `--help` lists the flags.
"""

import sys

from tuneoff.cli.coursework import run_program

if __name__ == "__main__":
    sys.exit(run_program("lora"))
