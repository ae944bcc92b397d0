"""Distributions that are installed into a folder: modules and entry points."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import documents


def install(site: Path, name: str, modules: Mapping[str, str], entries: Mapping[str, Mapping[str, str]]) -> None:
    """Install a distribution into a folder for sys.path.

    Args:
        site: The folder.
        name: Of the distribution.
        modules: Name of a module, with slashes for dots -> its source.
        entries: Entry point group -> name -> ``module:attribute``.
    """
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items())
             for group, each in entries.items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, source in modules.items():
        (site / module).parent.mkdir(exist_ok=True)
        (site / f"{module}.py").write_text(source)


def install_pages(site: Path, *pages: str) -> None:
    """Install the distribution that documents show: its files word for word, and the entry points of its TOML."""
    modules = {"my_package/__init__": ""}
    entries: dict[str, dict[str, str]] = {}
    for block in (block for page in pages for block in documents.blocks(page)):
        if block.title is not None:
            modules[block.title.removesuffix(".py")] = block.code
        elif block.language == "toml":
            entries |= tomllib.loads(block.code)["project"]["entry-points"]
    install(site, "my-package", modules, entries)
