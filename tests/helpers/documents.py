"""The documents of the project, taken apart for tests: pages, code blocks, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Written by docs/generate.py.
GENERATED = ("docs/reference/recipe.md", "docs/reference/cli.md")
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name not in ("CHANGELOG.md",)
)
#: Pages written by hand whose blocks are run.
WRITTEN = [page for page in PAGES if page not in GENERATED]
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: ([^\n]+) -->\n\Z")
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path from the repository's root.
        line: Where it begins, from 1.
        language: Of its fence.
        code: What it holds.
        title: Name of the file that it shows, or None.
        not_run: Why it cannot run in a test, or None.
    """

    page: str
    line: int
    language: str
    code: str
    title: str | None
    not_run: str | None


def text_of(page: str) -> str:
    """What a page holds."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = text_of(page)
    found = []
    for fence in _FENCE.finditer(text):
        title, reason = _TITLE.search(fence[2]), _NOT_RUN.search(text[: fence.start()])
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence[1], fence[3], title and title[1], reason and reason[1]))
    assert text.count("\n```") + text.startswith("```") == 2 * len(found), f"{page}: a fence that names no language"
    return found


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def spans(page: str) -> list[str]:
    """What stands between single backquotes in the prose of a page, on one line or two."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> Iterator[tuple[str, str]]:
    """Path and anchor of every link and image of a page; addresses have no anchor of their own."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = ("", "", "") if "://" in target else target.partition("#")
        yield (target, "") if "://" in target else (path, anchor)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub and mkdocs both make of a page's headings."""
    titles = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}
