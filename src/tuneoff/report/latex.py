"""Text for LaTeX: names and settings may come from strangers, and must neither act nor stop the compiler."""

import re

from tuneoff.text import sanitize

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar\allowbreak{}",  # signatures have many and no blank
    "`": r"\textasciigrave{}",
    '"': "''",
    "[": "{[}",  # after `\\` a bracket would be a length
    "]": "{]}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "\N{MINUS SIGN}": "$-$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "\N{NON-BREAKING HYPHEN}": "-",
}
_TO_REPLACE = re.compile("|".join(map(re.escape, ["--", *_SPECIAL])))


def escape_latex(text: str) -> str:
    """One line that LaTeX prints as it is. Letters of other scripts stay, and need XeLaTeX or LuaLaTeX."""
    line = sanitize(" ".join(text.split()))
    # Two hyphens would become a dash.
    return _TO_REPLACE.sub(lambda found: "-{}-" if found[0] == "--" else _SPECIAL[found[0]], line)
