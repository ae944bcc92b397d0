"""Patterns of models that are files or folders."""

import glob
from collections.abc import Callable
from pathlib import Path

from ...errors import nearest


def match_paths(pattern: str, accepts: Callable[[Path], bool]) -> tuple[list[str], str]:
    """List the paths that match a pattern, and a hint for the error message if there are none.

    Args:
        pattern: With ``*``, ``?`` or ``[...]``.
        accepts: Whether a path can be a model.
    """
    paths = [path for path in glob.glob(pattern) if accepts(Path(path))]
    siblings = glob.glob(f"{glob.escape(str(Path(pattern).parent))}/*")
    return paths, nearest(pattern, siblings) if siblings else "check the folder"
