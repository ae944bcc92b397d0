"""Whether what a run would write is already there."""

import contextlib
import dataclasses
import logging
from pathlib import Path

from ..artifact.folder import POINTS_FILE, check_files
from ..artifact.manifest import read_manifest
from ..checks.input_fingerprint import fingerprint_inputs
from ..errors import DynamicExitError
from ..output.workspace import Workspace
from ..points.operating_point import OperatingPoints
from ..recipe.recipe import Recipe
from ..report.metrics import METRICS_FILE, Metrics
from .result import Result

logger = logging.getLogger(__name__)


def find_unchanged(recipe: Recipe) -> Result | None:
    """Return what an earlier run has written to the output, if a run would write the same again; else None."""
    return _find_whole(Path(recipe.export.directory), fingerprint_inputs(recipe))


def find_resumed(workspace: Workspace, inputs: str | None) -> Result | None:
    """Return what an interrupted run had written before it ended, put in its place; else None.

    Args:
        workspace: Of the run that goes on.
        inputs: Fingerprint of what the run is made of; None if it is not known.

    Raises:
        OutputError: The output holds anything else.
    """
    output, partial = workspace.output, workspace.partial
    if workspace.is_written and (found := _find_whole(partial, inputs)):
        return dataclasses.replace(found, folder=workspace.complete())
    begun_anew = output.overwrite and partial.is_dir()
    if output.content() and not begun_anew and (found := _find_whole(output.directory, inputs)):
        logger.info(f"'{output.directory}' is written and whole: nothing is left to do")
        return found
    output.check()
    return None


def _find_whole(folder: Path, inputs: str | None) -> Result | None:
    """Return what a folder holds if it is whole and of the same inputs; else None."""
    with contextlib.suppress(DynamicExitError, OSError, ValueError):
        metrics = Metrics.read(folder / METRICS_FILE)
        if metrics.inputs is not None and metrics.inputs == inputs:
            check_files(folder, read_manifest(folder), [])
            return Result(folder, OperatingPoints.read(folder / POINTS_FILE), metrics)
    return None
