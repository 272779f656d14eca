"""Full fine-tuning with the settings of the coursework.

The same code as `tuneoff train full`; `--help` lists the flags.
"""

import sys

from tuneoff.cli.coursework import main

if __name__ == "__main__":
    sys.exit(main("full"))
