"""How threads wait for each other. Read when torch is loaded."""

import os

from tuneoff.engine.precision import has_matrix_units

# Figures: docs/lab_log.md. Threads that spin while they wait make a step several times slower as soon as another
# program needs a core. Where all threads share every operation, they spin for about as long as Python takes until the
# next one.
WAITING = {"GOMP_SPINCOUNT": "20000"} if has_matrix_units() else {"OMP_WAIT_POLICY": "PASSIVE"}


def wait_as_runs_do() -> None:
    """For a process that computes by itself. What the user has set stays. Without effect once torch is loaded."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
