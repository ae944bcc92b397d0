"""The file `report.html` of a written folder, made from the other files in it."""

from pathlib import Path
from typing import Any

from ..core.atomic_write import atomic_write
from ..errors import ExportError, OutputError
from ..points.operating_point import OperatingPoints
from ..report.examples import EXAMPLES_FILE, read_examples
from ..report.metrics import METRICS_FILE, Metrics
from ..report.page import report_page
from .folder import POINTS_FILE, RECIPE_FILE, missing_folder

REPORT_FILE = "report.html"


def read_run(folder: Path) -> tuple[OperatingPoints, Metrics]:
    """Read what a run has measured.

    Raises:
        DynamicExitError: The folder does not exist, or holds no run.
    """
    if not folder.is_dir():
        raise missing_folder(folder)
    for name in (POINTS_FILE, METRICS_FILE):
        if not (folder / name).is_file():
            raise ExportError(f"'{folder}' has no {name}; give a folder that `dynamic-exit run` wrote")
    return OperatingPoints.read(folder / POINTS_FILE), Metrics.read(folder / METRICS_FILE)


def run_title(folder: Path) -> str:
    """Return the name of a folder's backbone; the folder's own name where no recipe says it."""
    import yaml

    try:
        recipe: Any = yaml.safe_load((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        return Path(str(recipe["model"]["name"])).name
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return folder.resolve().name


def write_report(folder: Path) -> Path:
    """Write the report of a folder, in place of the one that is there.

    Args:
        folder: With operating points and metrics; recipe and examples are shown if they are there.

    Returns:
        The file.

    Raises:
        DynamicExitError: The folder does not exist, holds no run, or cannot be written.
    """
    points, metrics = read_run(folder)
    recipe = folder / RECIPE_FILE
    text = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
    page = report_page(run_title(folder), points, metrics, recipe=text, shown=read_examples(folder / EXAMPLES_FILE))
    return write_page(folder / REPORT_FILE, page)


def write_page(path: Path, page: str) -> Path:
    """Write a page, whole or not at all, and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(page.encode())
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error
    return path
