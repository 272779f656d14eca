"""Plain technical English: habits that make a reader read a sentence twice are found in code, messages and docs."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md", "SKILL.md")
]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
CODE = sorted(path for ending in ("py", "j2", "js", "toml") for path in (ROOT / "src").rglob(f"*.{ending}"))


class Habit(NamedTuple):
    """A phrase to avoid. A space in `pattern` matches any white space, so a phrase that wraps is found too."""

    pattern: str
    bad: str
    good: str


HABITS = [
    Habit(r"\banew\b", "It is drawn anew.", "It is drawn again."),
    Habit(r"\bcompany\b", "measured in company", "measured in concurrent runs"),
    Habit(r"\breserve (?:trial|one)s?\b", "and a reserve trial", "and a refinement trial"),
    Habit(r"\b(?:tells|told)\b", "The record tells the reason.", "The record has the reason. Tell us."),
    Habit(r"\btell (?:\w+ ){0,4}apart\b", "It can tell two methods apart.", "It can detect a difference."),
    Habit(
        r"(?<!there\s)\b(?:is|are) no (?!longer\b|more\b|fewer\b|less\b|larger\b|slower\b|better\b|worse\b)[a-z]+",
        "Blank lines are no rows.",
        "There is no row. It is no longer one.",
    ),
    Habit(r"\bg(?:ive|ives|ave|iving|iven) way\b", "what gave way for time", "what was reduced to fit the time limit"),
    Habit(r"\bmay lose\b", "LoRA may lose 1.6", "the regret bound of LoRA is 1.6"),
    Habit(
        r"\b(?:stand|stands|stood|standing) "
        r"(?:in|for|at|on|around|beside|behind|before|between|alone|apart|under|above|below|outside|there|together|with)\b",
        "The file stands in the folder.",
        "The file is in the folder. A standing order.",
    ),
    Habit(r"\bgo(?:es)? before\b", "The flag goes before the file.", "The flag takes precedence over the file."),
    Habit(r"\bcut (?:to fit|off the training data|early)\b", "texts cut to fit", "truncated texts, a cut"),
    Habit(r"\bshares? (?:of the data|below 1)\b", "a share of the data", "a fraction of the data, shared"),
    Habit(
        r"\b(?:each|every|smaller|larger) shares?\b|\b(?:at|on) (?:a|one|some|several) shares?\b",
        "trials at each share",
        "trials at each fraction of the data; share of the outputs",
    ),
    Habit(r"\bhealth checks?\b", "Health checks: 18", "Diagnostics: 18"),
    Habit(r"\bmixtures?\b", "a mixture of machines", "a confound"),
    Habit(r"\bpieces? of (?:a|the|one|its|each) (?:micro-)?batch\b", "a piece of a batch", "a micro-batch"),
    Habit(r"\bbut for\b", "all but for one", "all except one"),
    Habit(
        r", for (?:it|they|there|nobody|nothing|none)\b",
        "It is left out, for nobody reads it.",
        "It is left out, because it is never read. For it, use this.",
    ),
    Habit(r"\bin silence\b", "dropped in silence", "dropped silently"),
    Habit(r"\b(?:come|comes|came) to (?:its|their|an) ends?\b", "one trial comes to its end", "one trial finishes"),
    Habit(
        r"\b(?:draw|draws|drew|drawn) (?:the|a|an|its|their) (?:verdict|report|page)s?\b",
        "Draw the report again.",
        "Write the report again.",
    ),
    Habit(r"\b(?:at most|at least|after|every|below|beyond) so many\b", "at most so many steps", "at most N steps"),
    Habit(r"\b(?:its|their|and) kin\b", "LoRA and its kin", "LoRA and its variants"),
    Habit(
        r"\b(?:lest|whence|thence|whereof|thereof|hitherto|henceforth)\b", "lest it fail", "so that it does not fail"
    ),
]

# Text that a pattern finds and that is right. Each entry must still occur, so that the list cannot grow stale.
ALLOWED: dict[str, tuple[str, ...]] = {}


def found(text: str) -> Iterator[tuple[int, str]]:
    """Line offset and text of every habit in `text`."""
    for habit in HABITS:
        for match in re.finditer(habit.pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()), " ".join(match[0].split())


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """First line and text of every comment and string. Lines of one comment are joined, and so are the parts of a
    string that is written in several literals, because a phrase may begin in one and end in the next."""
    kind, first, parts = 0, 0, [""]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            continue
        if token.type not in (tokenize.COMMENT, tokenize.STRING) or token.type != kind:
            if kind:
                yield first, "\n".join(parts)
            kind, first, parts = 0, token.start[0], []
        if token.type == tokenize.COMMENT:
            kind = token.type
            parts.append(token.string.lstrip("#: "))
        elif token.type == tokenize.STRING:
            kind = token.type
            prefix, text = re.findall(
                r"""^([A-Za-z]*)(?:'''|\"""|'|")(.*?)(?:'''|\"""|'|")$""", token.string, re.DOTALL
            )[0]
            parts.append(re.sub(r"\{[^{}]*\}", "{}", text) if "f" in prefix.lower() else text)  # `{told}`: a variable
    if kind:
        yield first, "\n".join(parts)


def prose_of_markdown(text: str) -> str:
    """The text without code: output of the program is checked where the program prints it. Lines are kept."""
    code = r"^```.*?^```|`(?:[^`\n]|\n(?!\n))*`"  # a block, or a span, which may wrap inside its paragraph
    return re.sub(code, lambda match: "`" + "\n" * match[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)


def hits(path: Path, text: str) -> list[str]:
    """`line: phrase` for every habit in a file, in the order of lines."""
    name = path.relative_to(ROOT).as_posix() if path.is_absolute() else path.as_posix()
    if path.suffix == ".py":
        prose = list(prose_of_python(text))
    else:
        prose = [(1, prose_of_markdown(text) if path.suffix == ".md" else text)]
    lines = sorted((first + offset, phrase) for first, part in prose for offset, phrase in found(part))
    return [f"{line}: {phrase}" for line, phrase in lines if phrase not in ALLOWED.get(name, ())]


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.bad)
def test_the_checker_finds_the_habit_and_accepts_plain_english(habit: Habit) -> None:
    assert list(found(habit.bad))
    assert not list(found(habit.good))


def test_the_checker_reads_comments_strings_and_docstrings_of_python() -> None:
    source = (
        'def f():\n    """A file that stands\n    in a folder."""\n'
        "    # made\n    # anew\n"
        '    return "the study gives " f"way"\n'
    )
    assert hits(Path("x.py"), source) == ["2: stands in", "5: anew", "6: gives way"]
    assert hits(Path("x.py"), "anew = in_company = 1\nf'far {told} {anew}'\n'{told}'\n") == ["3: told"]


def test_the_checker_reads_text_and_not_code_of_markdown() -> None:
    text = "# Page\n\n`anew` is `a\nname anew`.\n\n```\nwritten anew\n```\n\nIt is written\nanew, `x`.\n"
    assert hits(Path("x.md"), text) == ["11: anew"]


def test_the_checker_reads_templates_and_scripts() -> None:
    assert hits(Path("x.j2"), "<p>\nWhat gave way for time</p>") == ["2: gave way"]


def test_a_phrase_that_is_allowed_in_one_file_is_found_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALLOWED, "x.md", ("anew",))
    assert hits(Path("x.md"), "written anew, told") == ["1: told"]
    assert hits(Path("y.md"), "written anew") == ["1: anew"]


def test_every_exception_is_still_needed() -> None:
    for name, phrases in ALLOWED.items():
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert all(phrase in text for phrase in phrases), name


@pytest.mark.parametrize("path", [*PAGES, *CODE], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plain_english(path: Path) -> None:
    assert hits(path, path.read_text(encoding="utf-8")) == []


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert len(text.splitlines()) <= 150
    assert max(len(line) for line in text.splitlines()) <= 120


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target) if target else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{page.name}: {target}#{anchor}"
