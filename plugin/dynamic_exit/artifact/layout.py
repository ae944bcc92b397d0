"""Writes the model files of a folder: one file, or one per stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ..onnx.external_data import save_model
from ..runtime.stages import Stage, StageSet
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
        Entries of the configuration: ``layout``, ``checksums`` and, for segments, ``parts``.
    """
    if layout == "single":
        written = save_model(model, folder / MODEL_FILE)
        return {"layout": layout, "checksums": _checksums(folder, written)}
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
    written: list[Path] = []

    def add(kind: str, stage: Stage, **entry: str | int) -> dict[str, Any]:
        name = f"{STAGES_FOLDER}/{kind}.{ending}"
        written.extend(write(stage.part, folder / name))
        return {**entry, "file": name, "takes": list(stage.part.input_names)}

    parts = {
        "fuse": stages.fuse,
        "default": default,
        "segments": [add(f"segment{index}", stage) for index, stage in enumerate(stages.segments)],
        "savers": [add(f"saver{i}", stage, name=name) for i, (name, stage) in enumerate(stages.savers.items())],
        "exits": [
            add(f"exit{i}", stage, name=name, position=index)
            for i, (name, (index, stage)) in enumerate(stages.exits.items())
        ],
        "notes": [add(f"note{index + 1}", stage, position=index) for index, stage in stages.taps.items()],
    }
    return {"layout": "segments", "checksums": _checksums(folder, written), "parts": parts}


def _checksums(folder: Path, files: list[Path]) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}
