"""What every page is made with: resources of this package, templates that escape, a content security policy."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from tuneoff.report.escaping import escape_controls
from tuneoff.report.theme import HUES, NEUTRAL


def read_resource(name: str) -> str:
    """The text of a file in this package."""
    return files("tuneoff.report").joinpath(name).read_text(encoding="utf-8")


def style_sheet() -> str:
    """The style sheet, with one class for each hue."""
    hues = "".join(
        f".hue-{index}{{--hue:{light}}}@media screen and (prefers-color-scheme:dark){{.hue-{index}{{--hue:{dark}}}}}\n"
        for index, (light, dark) in enumerate((NEUTRAL, *HUES))
    )
    return read_resource("page.css") + hues


def security_policy(scripts: Sequence[str], style: str) -> str:
    """A content security policy that allows only these scripts and this style sheet, each named by its hash."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
            f"style-src 'sha256-{_sha256(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def template_environment() -> Environment:
    """Templates that escape what they print and have the filter `escape_controls`."""
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["escape_controls"] = escape_controls
    return made
