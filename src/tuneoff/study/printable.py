"""Texts of strangers made harmless for a terminal."""


def printable(text: str, keep: str = "") -> str:
    """`text` with every control code (escape sequences, carriage returns, direction marks) turned into `?`.

    Characters of `keep`, such as the line feed, stay.
    """
    return "".join(character if character.isprintable() or character in keep else "?" for character in text)
