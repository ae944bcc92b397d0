"""Weights behind links, as in the cache of the hub, which neither onnx nor onnxruntime takes."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def without_links(path: str | Path) -> Iterator[Path]:
    """Yield a model's file whose weights in ``<path>.data`` are no link and have none: a temporary copy if need be."""
    path = Path(path)
    data = path.with_name(f"{path.name}.data")
    if not data.exists() or not (data.is_symlink() or data.stat().st_nlink > 1):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dynamic_exit_") as folder:
        for each in (path, data):
            shutil.copyfile(each, Path(folder, each.name))
        yield Path(folder, path.name)
