"""Text for LaTeX: names and settings may come from strangers, and must neither act nor stop the compiler."""

import re
from unicodedata import normalize

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
    # pdflatex stops at these
    "\N{ZERO WIDTH SPACE}": r"\hspace{0pt}",
    "\N{WORD JOINER}": "",
    "\N{COMBINING GRAPHEME JOINER}": "",
    "\N{VARIATION SELECTOR-15}": "",
    "\N{VARIATION SELECTOR-16}": "",
    "\N{ZERO WIDTH NO-BREAK SPACE}": "",
}
# LaTeX forms ligatures of neighbours among these, unless a group separates them.
_LIGATURES = ("-–—\N{NON-BREAKING HYPHEN}", "'’”\"", "‘“?!", ",")
_JOINED = "|".join(f"[{some}](?=[{some}])" for some in _LIGATURES)
_TO_REPLACE = re.compile("|".join((f"({_JOINED})", *map(re.escape, _SPECIAL))))


def escape_latex(text: str) -> str:
    """One line that LaTeX prints as it is. Letters of other scripts stay, and need XeLaTeX or LuaLaTeX.

    Accents are composed with their letters (NFC), because pdflatex stops at an accent of its own.
    """
    line = normalize("NFC", sanitize(" ".join(text.split())))
    return _TO_REPLACE.sub(lambda found: _SPECIAL.get(found[0], found[0]) + ("{}" if found[1] else ""), line)
