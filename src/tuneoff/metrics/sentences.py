"""Splits texts into sentences. LEAD-k, the oracle sentence, ROUGE-Lsum and the search for names use this one rule."""

import re

# Part of the ROUGE signature. Increase it with every change that moves a boundary.
SENTENCE_RULE_VERSION = 1

# A period after these words does not end a sentence. "etc." and "Inc." are not in the list: they often end one.
_ABBREVIATION = re.compile(r"al|approx|cf|dr|e\.g|i\.e|lt|mrs?|ms|prof|resp|st|viz|vs|w\.r\.t", re.IGNORECASE)
# The same, but only before a number: "see no. 5", but "The answer is no. Then".
_BEFORE_NUMBER = re.compile(r"ch|eqs?|figs?|nos?|pp?|refs?|sect?|tab|vol", re.IGNORECASE)
_OPENERS = "\"'“‘«([{¿¡「『（"
_CLOSERS = r"\"'”’»)\]}」』）"
# A blank line, a line break, a mark before white space, or a full-width mark, which needs no white space after it.
# Possessive quantifiers, and a match only at the first mark of a run, keep it linear in a text of a million periods.
_END = re.compile(rf"\n[^\S\n]*+\n\s*+|\n|(?<![.!?…])[.!?…]++[{_CLOSERS}]*+(?=\s)|[。！？]++[{_CLOSERS}]*+")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # J, U.S (also x, a.m; only those in capitals count)
_LIST_MARK = re.compile(r"[(\[]?(?:\d{1,3}|[^\W\d_])[.)\]]+")
_WINDOW = 24  # characters inspected on either side of a mark, more than any abbreviation has; keeps it linear


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, with runs of white space replaced by one space.

    A sentence ends at a blank line and at `。`, `！`, `？`. It also ends at a line break, and at `.`, `!`, `?` or `…`
    (with closing quotes and brackets) before white space, unless the next word starts in lower case. A period does not
    end it after a known abbreviation (et al., e.g., Fig. 3), after initials (J., U.S.) or after the number of a list
    item (1.). Sentences without a letter or digit are left out, so only white space and punctuation are lost.
    """
    text = "\n".join(text.splitlines())
    found: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if _is_sentence_end(text, start, match):
            found.append(text[start : match.end()])
            start = match.end()
    found.append(text[start:])
    return [" ".join(sentence.split()) for sentence in found if any(map(str.isalnum, sentence))]


def _is_sentence_end(text: str, start: int, match: re.Match[str]) -> bool:
    mark = match.group()
    if mark[0] in "。！？" or mark.count("\n") > 1:
        return True
    following = _next_letter(text, match.end())
    if following.islower():
        return False
    if mark[0] != "." or mark.startswith(".."):
        return True
    if match.end() - start <= _WINDOW and _LIST_MARK.fullmatch(text[start : match.end()].strip()):
        return False
    word = _word_before(text, start, match.start())
    if following.isdigit() and _BEFORE_NUMBER.fullmatch(word):
        return False
    return not (_ABBREVIATION.fullmatch(word) or (word.isupper() and _INITIALS.fullmatch(word)))


def _next_letter(text: str, position: int) -> str:
    """The first character after white space and opening marks; "" if none is near."""
    near = text[position : position + _WINDOW]
    return next((letter for letter in near if not letter.isspace() and letter not in _OPENERS), "")


def _word_before(text: str, start: int, end: int) -> str:
    """The word that ends at `end`, without opening marks; "" if there is white space."""
    words = text[max(start, end - _WINDOW) : end].split()
    return words[-1].lstrip(_OPENERS) if words and not text[end - 1].isspace() else ""
