"""Compression on the way into `from_pretrained`: who knows recipes registers here, for this room knows none."""

import os
from pathlib import Path
from typing import Any, Protocol

from ..errors import ExportError


class Exporter(Protocol):
    """Compresses a model by a recipe."""

    def __call__(self, model_id: str | os.PathLike, recipe: Any, task: str, **hub: Any) -> tuple[Path, object]:
        """Return the folder that was written, and what keeps it where it is a temporary one."""


_exporters: list[Exporter] = []


def register_exporter(exporter: Exporter) -> None:
    """Say what `from_pretrained(..., export=True)` calls."""
    _exporters[:] = [exporter]


def export(model_id: str | os.PathLike, recipe: Any, task: str, **hub: Any) -> tuple[Path, object]:
    """Compress a model by the exporter that is registered.

    Args:
        model_id: Folder or id of a transformers model.
        recipe: File, mapping or `Recipe`.
        task: ``image-classification`` or ``text-classification``.
        **hub: Options of the hub.

    Returns:
        The folder that was written, and what keeps it where it is a temporary one.

    Raises:
        ExportError: No recipe came in, or nothing is registered.
    """
    if recipe is None:
        raise ExportError("export=True needs a recipe; give recipe= a file, a mapping or a Recipe")
    if not _exporters:
        raise ExportError("nothing here knows recipes; import dynamic_exit, not only dynamic_exit.hub")
    return _exporters[0](model_id, recipe, task, **hub)
