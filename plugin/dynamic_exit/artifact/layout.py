"""Writes the model files of a folder: one file, or one per stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ..onnx.external_data import save_model
from ..runtime.stages import StageSet
from .folder import MODEL_FILE, STAGES_FOLDER, checksum


def write_model(folder: Path, stages: StageSet, model: onnx.ModelProto, layout: str, default: str) -> dict[str, Any]:
    """Write the files of a model for onnxruntime.

    Args:
        folder: The folder.
        stages: The model's stages.
        model: All stages in one file.
        layout: ``single``, or ``segments`` for one file per stage.
        default: Name of the initial operating point.

    Returns:
        Entries of the configuration: ``layout``, ``chain``, ``default``, ``files`` and ``checksums``.
    """
    if layout == "single":
        return _describe(layout, stages, default, {"model": MODEL_FILE}, folder, save_model(model, folder / MODEL_FILE))
    return write_stages(folder, stages, default, "onnx", lambda part, path: save_model(part.proto, path))


def write_stages(
    folder: Path, stages: StageSet, default: str, ending: str, write: Callable[[Any, Path], list[Path]]
) -> dict[str, Any]:
    """Write one file per stage.

    Args:
        folder: The folder.
        stages: The model's stages.
        default: Name of the initial operating point.
        ending: Ending of the files.
        write: Writes a part to a path; returns the files that it wrote.

    Returns:
        Entries of the configuration, as `write_model`.
    """
    (folder / STAGES_FOLDER).mkdir()
    parts = {role: stage.part for role, stage in stages.by_role.items()}
    files = {role: f"{STAGES_FOLDER}/{role}.{ending}" for role in parts}
    written = [path for role, part in parts.items() for path in write(part, folder / files[role])]
    return _describe("segments", stages, default, files, folder, written)


def _describe(
    layout: str, stages: StageSet, default: str, files: dict[str, str], folder: Path, written: list[Path]
) -> dict[str, Any]:
    checksums = {path.relative_to(folder).as_posix(): checksum(path) for path in written}
    chain = stages.spec.model_dump(mode="json")
    return {"layout": layout, "chain": chain, "default": default, "files": files, "checksums": checksums}
