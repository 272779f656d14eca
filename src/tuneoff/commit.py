"""Which commit of tuneoff this is: of a checkout or of the build that was installed."""

import subprocess
from pathlib import Path

_HERE = Path(__file__).resolve()


def commit() -> str | None:
    """The commit that tuneoff was built from, or that of the checkout that it runs from; None if neither is known.

    The repository of a virtual environment is not taken for tuneoff's own.
    """
    kept = _HERE.with_name("commit.txt")
    if kept.is_file():
        return kept.read_text(encoding="ascii").strip()
    said = ""
    for question in (["ls-files", "--error-unmatch", _HERE.name], ["rev-parse", "HEAD"]):
        try:
            said = subprocess.run(  # noqa: S603 - fixed words, the user's own git
                ["git", "-C", str(_HERE.parent), *question],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None
    return said
