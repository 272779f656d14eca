"""BibTeX entries: tuneoff, ROUGE, the statistics, and the methods of a study.

The entry of a method is its `citation`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tuneoff import __version__
from tuneoff.methods import METHODS
from tuneoff.spec.row_names import method_of

_ENTRY = re.compile(r"@\w+\{\s*([^,\s]+)\s*,.*?\n\}", re.DOTALL)
_YEAR_OF_TUNEOFF = 2026


@dataclass(frozen=True)
class BibEntry:
    """One entry of a bibliography."""

    key: str
    bibtex: str

    @property
    def short(self) -> str:
        """Authors and year, as a text cites them: `Hu et al., 2022`."""
        names = [name.partition(",")[0].strip(" {}") for name in self._field("author").split(" and ")]
        others = len(names) > 2 or names[-1] == "others"
        who = f"{names[0]} et al." if others else " and ".join(names)
        return f"{who}, {self._field('year')}"

    def _field(self, name: str) -> str:
        found = re.search(rf"\b{name}\s*=\s*\{{(.*?)\}},?\s*\n", self.bibtex, re.DOTALL)
        return " ".join(found[1].split()) if found else ""


def parse_entries(bibtex: str) -> tuple[BibEntry, ...]:
    """The entries of a text, each ending with a brace on a line of its own."""
    return tuple(BibEntry(found[1], found[0]) for found in _ENTRY.finditer(bibtex))


def _entry(bibtex: str) -> BibEntry:
    [found] = parse_entries(bibtex)
    return found


TUNEOFF = _entry(f"""@misc{{tuneoff,
  author = {{{{The tuneoff authors}}}},
  title = {{tuneoff: Comparing Ways of Adapting a Language Model under Equal Effort}},
  note = {{Software, version {__version__}}},
  year = {{{_YEAR_OF_TUNEOFF}}}
}}""")
ROUGE = _entry("""@inproceedings{lin2004rouge,
  author = {Lin, Chin-Yew},
  title = {{ROUGE}: A Package for Automatic Evaluation of Summaries},
  booktitle = {Text Summarization Branches Out},
  year = {2004}
}""")
ADAMW = _entry("""@inproceedings{loshchilov2019decoupled,
  author = {Loshchilov, Ilya and Hutter, Frank},
  title = {Decoupled Weight Decay Regularization},
  booktitle = {International Conference on Learning Representations},
  year = {2019}
}""")
ALL_PAIRS = _entry("""@article{hothorn2008simultaneous,
  author = {Hothorn, Torsten and Bretz, Frank and Westfall, Peter},
  title = {Simultaneous Inference in General Parametric Models},
  journal = {Biometrical Journal},
  volume = {50},
  number = {3},
  pages = {346--363},
  year = {2008}
}""")
BEST = _entry("""@book{hsu1996multiple,
  author = {Hsu, Jason C.},
  title = {Multiple Comparisons: Theory and Methods},
  publisher = {Chapman and Hall},
  year = {1996}
}""")
LOOKS = _entry("""@book{jennison2000group,
  author = {Jennison, Christopher and Turnbull, Bruce W.},
  title = {Group Sequential Methods with Applications to Clinical Trials},
  publisher = {Chapman and Hall/CRC},
  year = {2000}
}""")


def method_entries(row: str) -> tuple[BibEntry, ...]:
    """The entries of a row's method; none for a method of another package that has no `citation`."""
    name = method_of(row)
    return parse_entries(METHODS[name].citation) if name in METHODS else ()


def as_bibtex(entries: Iterable[BibEntry]) -> str:
    """A bibliography, each entry once."""
    return "\n\n".join(dict.fromkeys(entry.bibtex for entry in entries)) + "\n"
