"""The folder with data that is not part of the project, and the mark of tests that need some of it."""

import os
from pathlib import Path

import pytest

VARIABLE = "DYNAMIC_EXIT_DATA"
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = Path(os.environ.get(VARIABLE, _BESIDE)).absolute()


def needs(part: str, what: str) -> pytest.MarkDecorator:
    """Skip tests where a part of the folder is absent, and say what it holds."""
    return pytest.mark.skipif(
        not (DATA / part).exists(), reason=f"needs {what} in {DATA}; set {VARIABLE} to another folder"
    )
