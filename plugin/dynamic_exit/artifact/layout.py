"""The files of a written folder that hold its model: one for all, or one a stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ..onnx.external_data import save_model
from ..runtime.stages import StageSet
from .folder import MODEL_FILE, STAGES_FOLDER, checksum


def write_model(folder: Path, stages: StageSet, model: onnx.ModelProto, layout: str, default: str) -> dict[str, Any]:
    """Write the model that was verified.

    Args:
        folder: Where to.
        stages: Those in the model.
        model: All of them in one file.
        layout: ``single``, or ``segments`` for one file a stage.
        default: Name of the operating point to start with.

    Returns:
        What the configuration says of it: ``layout``, ``checksums`` and, for segments, ``parts``.
    """
    if layout == "single":
        written = save_model(model, folder / MODEL_FILE)
        return {"layout": layout, "checksums": _checksums(folder, written)}
    return write_stages(folder, stages, default, "onnx", lambda part, path: save_model(part.proto, path))


def write_stages(
    folder: Path, stages: StageSet, default: str, ending: str, write: Callable[[Any, Path], list[Path]]
) -> dict[str, Any]:
    """Write one file a stage.

    Args:
        folder: Where to.
        stages: Those in the model.
        default: Name of the operating point to start with.
        ending: Of the files.
        write: Writes a part to a path; returns the files that it wrote.

    Returns:
        What the configuration says of them.
    """
    (folder / STAGES_FOLDER).mkdir()
    written: list[Path] = []

    def put(kind: str, stage, **said) -> dict[str, Any]:
        name = f"{STAGES_FOLDER}/{kind}.{ending}"
        written.extend(write(stage.part, folder / name))
        return {**said, "file": name, "takes": list(stage.part.input_names)}

    parts = {
        "fuse": stages.fuse,
        "default": default,
        "segments": [put(f"segment{place}", stage) for place, stage in enumerate(stages.segments)],
        "savers": [put(f"saver{i}", stage, name=name) for i, (name, stage) in enumerate(stages.savers.items())],
        "exits": [
            put(f"exit{i}", stage, name=name, position=place)
            for i, (name, (place, stage)) in enumerate(stages.exits.items())
        ],
        "notes": [put(f"note{place + 1}", stage, position=place) for place, stage in stages.taps.items()],
    }
    return {"layout": "segments", "checksums": _checksums(folder, written), "parts": parts}


def _checksums(folder: Path, files: list[Path]) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}
