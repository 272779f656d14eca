"""Files that are not what their extension says: named for what they are, with a line that converts them."""

import struct

from tuneoff.errors import UserError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ZIP = b"PK\x03\x04"
PARQUET = b"PAR1"
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (LFS_POINTER, "a Git LFS pointer, not the file itself", "run `git lfs pull` in its repository"),
    (b"%PDF", "a PDF", "extract its text first, for example with `pdftotext FILE`"),
    (b"\xd0\xcf\x11\xe0", "an old Word or Excel file", "save it as .docx or .csv first"),
    (b"{\\rtf", "a rich text file", "save it as plain text first, for example with `pandoc FILE -o FILE.txt`"),
    (b"ARROW1", "an Arrow (Feather) file", "write it as Parquet: `pandas.read_feather(FILE).to_parquet(...)`"),
    (b"\x89HDF", "an HDF5 file", "write it as Parquet first"),
    (b"\x93NUMPY", "a NumPy file", "write its rows as JSON Lines first"),
    (b"SQLite format 3", "an SQLite database", "export the table: `sqlite3 -header -csv FILE 'SELECT * FROM ...'`"),
    (b"\x89PNG", "a picture", "give a file of texts"),
    (b"\xff\xd8\xff", "a picture", "give a file of texts"),
    (b"\x1f\x8b", "compressed twice", "decompress it once with `gunzip`"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
)
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_MARKUP = ((b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"))
_OFFICE_MEMBERS = (
    ("word/", "a Word document", "save it as plain text first, for example with `pandoc FILE -o FILE.txt`"),
    ("ppt/", "a PowerPoint file", "save its text first"),
    ("mimetype", "an OpenDocument or EPUB file", "save it as plain text or .csv first"),
)
# The header of a member of a zip archive: 26 bytes, the lengths of its name and of an extra field, the name.
_ZIP_HEADER = struct.Struct("<4s22xHH")


def refuse_foreign(name: str, start: bytes) -> None:
    """Raise `UserError` if `start`, the first bytes of a file, are those of a format that holds no rows or texts."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, kind, way_out in _KINDS:
        if text.startswith(magic):
            raise UserError(f"{name}: {kind}; {way_out}")
    if text.startswith(_PICKLES):
        raise UserError(f"{name}: a Python pickle, which can run code when it is read; write its rows as JSON Lines")
    for magic, kind in _MARKUP:
        if text[: len(magic)].lower() == magic:
            raise UserError(
                f"{name}: {kind} source, not rows of text; extract the text first, for example with `pandoc FILE -t "
                "plain`, or, if it was downloaded, check the address"
            )
    members = _zip_members(start)
    for member, kind, way_out in _OFFICE_MEMBERS:
        if any(found.startswith(member) for found in members):
            raise UserError(f"{name}: {kind}; {way_out}")


def is_workbook(start: bytes) -> bool:
    """Whether the first bytes of a file are those of an Excel workbook."""
    return any(name.startswith("xl/") for name in _zip_members(start))


def _zip_members(start: bytes) -> list[str]:
    """Names of the members of a zip archive whose headers are among its first bytes."""
    names = []
    at = 0 if start.startswith(ZIP) else -1
    while 0 <= at <= len(start) - _ZIP_HEADER.size:
        _, length, _ = _ZIP_HEADER.unpack_from(start, at)
        names.append(start[at + _ZIP_HEADER.size :][:length].decode("utf-8", "replace"))
        at = start.find(ZIP, at + _ZIP_HEADER.size)
    return names
