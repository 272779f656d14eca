"""Command lines of the docs: in their code blocks, and those in the text that are complete."""

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "SKILL.md"]
PAGES += sorted(page for page in DOCS.rglob("*.md") if page.name != "lab_log.md")  # the log keeps commands of its day

MARK = "# not run in tests"
"""Ends the line of a command that no test carries out."""

FENCED = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<content>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL)
# A block without a fence: four spaces after an empty line. Items of a list are indented too, but begin with a word.
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}(?:\w+=\S+ )*(?:\S*bin/)?(?:tuneoff|python|pip|make) .*\n)(?: {4}.*\n)*")
_INLINE = re.compile(r"`(tuneoff\s[a-z][a-z-]*\s[^`]+)`")


class Command(NamedTuple):
    """A command line, as it is typed: without its comment, and in one line."""

    page: Path
    typed: str
    marked: bool = False


class Block(NamedTuple):
    """A code block with what is behind its fence: the language, and perhaps more."""

    info: str
    content: str


def blocks(text: str) -> list[Block]:
    """The code blocks of a page that have a fence."""
    return [Block(found["info"], dedent(found["content"])) for found in FENCED.finditer(text)]


def commands_of(page: Path, text: str) -> list[Command]:
    """All of a page, in their order: those of its blocks, then those in its sentences."""
    found = []
    for block in blocks(text):
        lines = _joined(block.content)
        shown = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]  # the others are output
        is_shell = block.info.partition(" ")[0] in ("sh", "bash", "console")
        found += [_command(page, line) for line in shown or (lines if is_shell else ())]
    prose = FENCED.sub("", text)
    for part in _INDENTED.findall(prose):
        found += [_command(page, line) for line in _joined(part)]
    inline = [" ".join(span.split()) for span in _INLINE.findall(prose)]
    return found + [Command(page, span) for span in inline]


def commands_in_pages() -> list[Command]:
    return [command for page in PAGES for command in commands_of(page, page.read_text(encoding="utf-8"))]


def _joined(content: str) -> list[str]:
    """Lines of a block without empty ones and those that are a comment. A line that ends in a backslash continues."""
    lines = [line.strip() for line in re.sub(r"\\\n\s*", "", content).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _command(page: Path, line: str) -> Command:
    return Command(page, line.partition(" # ")[0].strip(), line.endswith(MARK))
