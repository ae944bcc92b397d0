"""mkdocs hooks: pages of the repository's root join the site, and links between the two trees keep working."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
#: Pages of the root that the site holds, too.
ROOT_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the root's pages."""
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links of a page to where their targets are in the site."""
    source = page.file.src_uri
    in_root = source in ROOT_PAGES
    return LINK.sub(lambda link: _moved(link, source, in_root), markdown)


def _moved(link: re.Match[str], source: str, in_root: bool) -> str:
    """Return a link for the site; what the site does not hold is told by its text alone."""
    mark, text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return link[0]
    folder = "" if in_root else posixpath.join("docs", posixpath.dirname(source))
    place = posixpath.normpath(posixpath.join(folder, path))
    inside = place.removeprefix("docs/") if place.startswith("docs/") else place if place in ROOT_PAGES else None
    if inside is None:
        return text
    return f"{mark}[{text}]({posixpath.relpath(inside, posixpath.dirname(source) or '.')}{hash_}{anchor})"
