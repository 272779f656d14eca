"""Where sentences end. One rule for LEAD-k, the oracle sentence, ROUGE-Lsum by punctuation and name finding."""

import re

# Part of the ROUGE signature: raise it when a change moves any boundary.
SENTENCE_RULE_VERSION = 1

# Words whose full stop does not end a sentence. "etc." and "Inc." are left out: they end sentences more often than not.
_ABBREVIATION = re.compile(r"al|approx|cf|dr|e\.g|i\.e|lt|mrs?|ms|prof|resp|st|viz|vs|w\.r\.t", re.IGNORECASE)
# The same before a number only: "see no. 5", but "The answer is no. Then".
_BEFORE_NUMBER = re.compile(r"ch|eqs?|figs?|nos?|pp?|refs?|sect?|tab|vol", re.IGNORECASE)
_OPENERS = "\"'“‘«([{¿¡「『（"
_CLOSERS = r"\"'”’»)\]}」』）"
# A blank line, a line break, a mark before white space, or a full-width mark, which needs no white space behind it.
# Possessive, and only from the first mark of a run: linear in a text of a million full stops.
_END = re.compile(rf"\n[^\S\n]*+\n\s*+|\n|(?<![.!?…])[.!?…]++[{_CLOSERS}]*+(?=\s)|[。！？]++[{_CLOSERS}]*+")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # J, U.S (and x, a.m: only those in capitals count)
_LIST_MARK = re.compile(r"[(\[]?(?:\d{1,3}|[^\W\d_])[.)\]]+")
_WINDOW = 24  # characters looked at on either side of a mark, longer than any abbreviation: hostile texts stay linear


def sentences(text: str) -> list[str]:
    """The sentences of `text` with white space folded, without those that hold no letter or digit.

    A sentence ends at a blank line, and at `。`, `！`, `？`. It also ends at a line break, and at `.`, `!`, `?` or `…`
    (with its closing quotes and brackets) before white space, unless the next word starts in lower case. A full stop
    does not end it after a known abbreviation (et al., e.g., Fig. 3), after initials (J., U.S.) and after the mark of
    a list item (1.). Decimals are safe because no white space follows their point. Only white space and marks are
    ever lost.
    """
    text = "\n".join(text.splitlines())
    found: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if _ends(text, start, match):
            found.append(text[start : match.end()])
            start = match.end()
    found.append(text[start:])
    return [" ".join(sentence.split()) for sentence in found if any(map(str.isalnum, sentence))]


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
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
    """The first character behind white space and opening marks; empty where the text ends or none is near."""
    near = text[position : position + _WINDOW]
    return next((letter for letter in near if not letter.isspace() and letter not in _OPENERS), "")


def _word_before(text: str, start: int, end: int) -> str:
    """The word that stands directly before `end`, without opening marks."""
    words = text[max(start, end - _WINDOW) : end].split()
    return words[-1].lstrip(_OPENERS) if words and not text[end - 1].isspace() else ""
