"""Whether a run would write what is already there."""

import contextlib
from pathlib import Path

from ..artifact.folder import POINTS_FILE, check_files
from ..artifact.manifest import read_manifest
from ..errors import DynamicExitError
from ..points.operating_point import OperatingPoints
from ..recipe.recipe import Recipe
from ..report.metrics import METRICS_FILE, Metrics
from .input_fingerprint import fingerprint_inputs
from .run import Result


def find_unchanged(recipe: Recipe) -> Result | None:
    """Return what an earlier run has written to the output, if a run would write the same again; else None."""
    folder = Path(recipe.export.directory)
    with contextlib.suppress(DynamicExitError, OSError, ValueError):
        metrics = Metrics.read(folder / METRICS_FILE)
        if metrics.inputs is not None and metrics.inputs == fingerprint_inputs(recipe):
            check_files(folder, read_manifest(folder).checksums, [])
            return Result(folder, OperatingPoints.read(folder / POINTS_FILE), metrics)
    return None
