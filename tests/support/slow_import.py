"""Preloaded by a server that is to be busy with its imports."""

import sys
import time

print("importing", file=sys.stderr, flush=True)
time.sleep(120)
