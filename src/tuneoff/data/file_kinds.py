"""Files that are not what their extension says: named for what they are, with a line that converts them."""

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
_IN_OFFICE_FILES = (
    (b"word/", "a Word document", "save it as plain text first, for example with `pandoc FILE -o FILE.txt`"),
    (b"ppt/", "a PowerPoint file", "save its text first"),
    (b"mimetypeapplication/", "an OpenDocument or EPUB file", "save it as plain text or .csv first"),
)


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
    if start.startswith(ZIP):
        for part, kind, way_out in _IN_OFFICE_FILES:
            if part in start:
                raise UserError(f"{name}: {kind}; {way_out}")
