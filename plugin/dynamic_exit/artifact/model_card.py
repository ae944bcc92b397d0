"""The model card (`README.md`) of a written folder."""

from ..points.operating_point import OperatingPoints
from ..recipe.target_registry import TARGETS
from ..report.metrics import Metrics
from ..report.tables import Table, class_table, metrics_table
from ..runtime.stages import FLOAT
from .manifest import IMAGES, Manifest


def model_card(title: str, manifest: Manifest, points: OperatingPoints, metrics: Metrics) -> str:
    """Return the model card as Markdown.

    Args:
        title: Name of the backbone.
        manifest: Manifest of the folder.
        points: The operating points.
        metrics: Content of ``metrics.json``.
    """
    table, classes = metrics_table(metrics), class_table(metrics)
    kind, inputs = "Image", "images"
    if manifest.task != IMAGES:
        kind, inputs = "Sequence", ", ".join(f"{each['name']}={each['name']}" for each in manifest.inputs)
    timed = "; times are those of the same stages in one file" if manifest.has_onnx_parts else ""
    lines = [
        "---",
        "library_name: dynamic_exit",
        f"pipeline_tag: {manifest.task}",
        f"tags: [dynamic-exit, early-exit, {TARGETS.find(manifest.target).tag}]",
        "---",
        f"# {title}, dynamic",
        "",
        f"A classifier that answers easy inputs early. The operating point is chosen when calling. It runs in "
        f"{manifest.target}{', compiled with inductor' * manifest.compile}, its backbone in {manifest.numerics}.",
        "",
        "```python",
        f"from dynamic_exit import DynamicExitModelFor{kind}Classification",
        "",
        f'model = DynamicExitModelFor{kind}Classification.from_pretrained("this folder")',
        f'model.set_operating_point("{points.names[0]}")',
        f"answer = model({inputs})  # logits, exit_index, confidence",
        "```",
        "",
        *_markdown(table),
        "",
        f"Measured on {metrics.samples['test']} test samples that nothing was tuned on; "
        f"cost in {points.cost_unit} over the backbone's; {metrics.timing.runtime}, "
        f"{metrics.timing.threads} thread; accuracy with its standard error; "
        f"times: median and half the distance of the quartiles{timed}.",
        *_requirements(manifest, metrics),
        *([""] if metrics.notes else []),
        *(f"- {note}" for note in metrics.notes),
        *(["", f"{classes.title}:", "", *_markdown(classes)] if classes else []),
    ]
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> list[str]:
    """Return the lines of a table; names of classes may hold what separates its columns."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    rows = [f"| {' | '.join(row)} |" for row in lines]
    return [rows[0], f"|{' --- |' * len(table.header)}", *rows[1:]]


def _requirements(manifest: Manifest, metrics: Metrics) -> list[str]:
    """Return which runtimes and processors the figures hold for, as lines after a blank one."""
    timing, said = metrics.timing, []
    if timing.oldest_runtime:
        said.append(f"It needs {manifest.target} {timing.oldest_runtime} or newer.")
    if timing.instruction_set:
        rounding = "" if manifest.numerics == FLOAT else f", and {manifest.numerics} may answer otherwise there"
        said.append(
            f"The processor was {timing.machine} with {timing.instruction_set}: on another one times differ{rounding}; "
            "`dynamic-exit evaluate` measures it."
        )
    return ["", " ".join(said)] if said else []
