"""The encoding of a text file: given, marked at its start, UTF-8, or Windows-1252 if its bytes are text in it."""

import codecs
import re
import unicodedata
from dataclasses import dataclass

from tuneoff.data.byte_source import ByteSource, reading
from tuneoff.errors import UserError

_MARKS = (  # that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_READ_BYTES = 1 << 20
_INSPECTED_BYTES = 16 << 20  # of a file that is not UTF-8
# More letters beyond ASCII than this and a text is not in a language that Windows-1252 was made for. In French, the
# language with most of them, they are about one letter in thirty.
_MOST_ACCENTED = 0.25
_WORD_BEYOND_ASCII = re.compile(r"\w*[^\W\x00-\x7f]\w*")
_INSIDE_A_WORD = re.compile(r"(?<=[^\W\d_])[\x80-\u2122](?=[^\W\d_])")
_APOSTROPHES_AND_DASHES = "\u2019\u2018\u00b4\u2013\u2014\u2026\u00b7\u00ad\u2022"
_MULTIBYTE_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_BYTE_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True)
class TextEncoding:
    """The name of an encoding, and a sentence if it was guessed."""

    name: str
    caution: str | None = None


def text_encoding(source: ByteSource, given: str | None) -> TextEncoding:
    """The encoding of a text file. It is read once if it has no mark and none is given.

    Raises `UserError` for an unknown encoding and for a file that is neither UTF-8 nor Windows-1252.
    """
    start = source.start
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if given is not None:
        return TextEncoding(marked if marked and _is_utf8(given) else _known(given))
    if marked is not None:
        return TextEncoding(marked)
    if (wide := _utf16_without_mark(start)) is not None:
        return TextEncoding(wide, f"{source.name}: read as {wide.upper()}, although it has no mark that says so")
    if decodes_as_utf8(source):
        return TextEncoding("utf-8")
    with reading(source.name), source.open() as stream:
        content = stream.read(_INSPECTED_BYTES)
    sequences = _MULTIBYTE_UTF8.findall(content)
    beyond = len(_BYTE_BEYOND_ASCII.findall(content))
    if 2 * sum(map(len, sequences)) > beyond or b"\0" in content or b"\xff" in content:
        # UTF-8 with damaged places, or no text at all (0xFF is the rarest letter of Windows-1252): the rows decide.
        return TextEncoding("utf-8")
    text = content.decode("cp1252", errors="replace")
    if not _is_western(text):
        raise UserError(
            f"{source.name}: the file is not UTF-8, and its encoding is not known; name it with --encoding (such as "
            "cp1250, cp1251, gb18030 or shift_jis), or save the file as UTF-8"
        )
    word = _WORD_BEYOND_ASCII.search(text)
    example = f", as in {word[0][:40]!r}" if word else ""
    return TextEncoding(
        "cp1252",
        f"{source.name}: the file is not UTF-8 and was read as Windows-1252 (cp1252){example}; if that is wrong, name "
        "its encoding with --encoding",
    )


def _known(given: str) -> str:
    try:
        "".encode(given)
        return codecs.lookup(given).name
    except (LookupError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(
            f"--encoding {given[:60]!r}: there is no such encoding; try utf-8, cp1252, utf-16 or gb18030"
        ) from error


def _is_utf8(given: str) -> bool:
    return _known(given) in ("utf-8", "utf-8-sig")


def _utf16_without_mark(start: bytes) -> str | None:
    """Mostly ASCII text in UTF-16 has a NUL in every second byte."""
    if len(start) < 16:
        return None
    even, odd = start[::2].count(0) / len(start[::2]), start[1::2].count(0) / len(start[1::2])
    if max(even, odd) < 0.4 or min(even, odd) > 0.05:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def decodes_as_utf8(source: ByteSource) -> bool:
    """Whether all bytes of a text file are UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with reading(source.name), source.open() as stream:
            while chunk := stream.read(_READ_BYTES):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_western(text: str) -> bool:
    """Whether a text that was decoded as Windows-1252 is likely to be in it."""
    if "\ufffd" in text:
        return False
    letters = sum(character.isalpha() for character in text)
    accented = sum(character.isalpha() and not character.isascii() for character in text)
    signs = [
        sign[0]
        for sign in _INSIDE_A_WORD.finditer(text)
        if sign[0] not in _APOSTROPHES_AND_DASHES and not unicodedata.category(sign[0]).startswith("L")
    ]
    beyond = sum(not character.isascii() for character in text)
    return accented <= _MOST_ACCENTED * letters and len(signs) <= 0.1 * beyond
