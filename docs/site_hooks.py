"""What the site has beside docs/: pages of the repository's root, and links to files that are not pages.

MkDocs calls `on_files` and `on_page_markdown` (mkdocs.yml, `hooks`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Files of the root -> pages of the site.
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changes.md"}
HOME = "index.md"
# A code block with more behind its language: the name of the file that it shows, or `writes` and files, for the tests.
_NAMED_BLOCK = re.compile(r"^(?P<block> *```\w+) (?:(?P<file>[\w.-]+)|writes .*)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    from mkdocs.structure.files import File

    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Make the links of a page fit the site."""
    return for_site(markdown, page.file.src_uri)


def for_site(markdown: str, page: str) -> str:
    """The text of a page as the site needs it.

    A link to a file that is not on the site becomes the name of that file. The name behind the language of a code block
    becomes its title. `page`: its path below docs/, or its name on the site if it is one of the root.
    """
    from_root = {target: source for source, target in ROOT_PAGES.items()}.get(page)
    here = Path(from_root) if from_root is not None else Path("docs") / page

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = Path(os.path.normpath(here.parent / target)).as_posix()
        found = _page_of(path)
        if found is None:  # one that leads nowhere stays, so that MkDocs warns of it
            return f"{match['text']} (`{path}`)" if (ROOT / path).exists() else match[0]
        return f"[{match['text']}]({os.path.relpath(found, Path(page).parent)}{match['anchor'] or ''})"

    def titled(match: re.Match[str]) -> str:
        return match["block"] if match["file"] is None else f'{match["block"]} title="{match["file"]}"'

    return _NAMED_BLOCK.sub(titled, _LINK.sub(link, markdown))


def _page_of(path: str) -> str | None:
    """The page or file of the site for a path of the repository."""
    if path == "README.md":
        return HOME
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    inside = path.removeprefix("docs/")
    return inside if inside != path and (ROOT / path).is_file() else None
