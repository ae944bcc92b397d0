"""Distributions that are installed into a folder: modules and entry points."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, modules: Mapping[str, str], entries: Mapping[str, Mapping[str, str]]) -> None:
    """Install a distribution into a folder for sys.path.

    Args:
        site: The folder.
        name: Of the distribution.
        modules: Name of a module -> its source.
        entries: Entry point group -> name -> ``module:attribute``.
    """
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items())
             for group, each in entries.items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
