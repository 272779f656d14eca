"""`python -m tuneoff`: the command line, where its own program is not on the PATH."""

import sys

from tuneoff.cli import main

if __name__ == "__main__":
    sys.exit(main())
