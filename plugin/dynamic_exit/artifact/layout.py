"""Writes the model files of a folder: one file, or one per stage."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx

from ..onnx.external_data import save_model
from ..runtime.stages import StageSet
from .folder import MODEL_FILE, STAGES_FOLDER, checksum
from .manifest import Manifest


def write_model(folder: Path, stages: StageSet, model: onnx.ModelProto, manifest: Manifest) -> Manifest:
    """Write the files of a model for onnxruntime, in the manifest's layout.

    Args:
        folder: The folder.
        stages: The model's stages.
        model: All stages in one file.
        manifest: Of the model.

    Returns:
        The manifest with these files.
    """
    if manifest.layout == "single":
        return with_files(manifest, folder, {"model": MODEL_FILE}, save_model(model, folder / MODEL_FILE))
    return write_stages(folder, stages, manifest, "onnx", lambda part, path: save_model(part.proto, path))


def write_stages(
    folder: Path, stages: StageSet, manifest: Manifest, ending: str, write: Callable[[Any, Path], list[Path]]
) -> Manifest:
    """Write one file per stage.

    Args:
        folder: The folder.
        stages: The model's stages.
        manifest: Of the model.
        ending: Ending of the files.
        write: Writes a part to a path; returns the files that it wrote.

    Returns:
        The manifest with these files.
    """
    (folder / STAGES_FOLDER).mkdir()
    files = {role: f"{STAGES_FOLDER}/{role}.{ending}" for role in stages.by_role}
    written = [path for role, stage in stages.by_role.items() for path in write(stage.part, folder / files[role])]
    return with_files(manifest, folder, files, written)


def with_files(manifest: Manifest, folder: Path, files: Mapping[str, str], written: Iterable[Path]) -> Manifest:
    """Return a manifest with the files of its model.

    Args:
        manifest: Of the model.
        folder: The folder.
        files: As `Manifest.files`.
        written: The files with weights, which are there.
    """
    checksums = {path.relative_to(folder).as_posix(): checksum(path) for path in written}
    return manifest.model_copy(update={"files": dict(files), "checksums": checksums})
