"""JSON of unknown origin: of bounded size, and nested no deeper than Python reads."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The largest file that is read, in bytes; those that runs write have up to a few megabytes.
MAX_BYTES = 256_000_000


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file in UTF-8.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, too large or nested too deeply; the message says which.
    """
    return parse_json(read_text(path))


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file in UTF-8.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large, or no UTF-8.
    """
    size = os.stat(path).st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / 1e6:,.0f} MB, such files may have up to {MAX_BYTES / 1e6:,.0f} MB")
    return Path(path).read_text(encoding="utf-8")


def parse_json(text: str, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Return what a JSON text says.

    Args:
        text: The text.
        parse_constant: As `json.loads` takes it.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
