"""What every page of ours is made with: our own files, escaping templates, a policy that names our scripts by hash."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from tuneoff.report.escaping import visible


def source(name: str) -> str:
    """A file of this folder."""
    return files("tuneoff.report").joinpath(name).read_text(encoding="utf-8")


def policy(scripts: Sequence[str], style: str) -> str:
    """A content security policy under which nothing but these scripts and this style sheet acts."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{digest(script)}'" for script in scripts),
            f"style-src 'sha256-{digest(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def digest(text: str) -> str:
    """SHA-256 as a policy spells it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def environment() -> Environment:
    """Templates that escape what they print, and know `visible`."""
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["visible"] = visible
    return made
