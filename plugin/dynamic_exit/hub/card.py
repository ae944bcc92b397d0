"""The model card."""

from typing import Any

from ..report.page import table
from ..tuning.operating_point import OperatingPoints
from .configuration import IMAGES


def model_card(title: str, task: str, points: OperatingPoints, metrics: dict[str, Any]) -> str:
    """Return the model card as Markdown.

    Args:
        title: Name of the backbone.
        task: ``image-classification`` or ``text-classification``.
        points: The operating points.
        metrics: Content of ``metrics.json``.
    """
    header, rows = table(metrics)
    kind, inputs = ("Image", "images") if task == IMAGES else ("Sequence", "input_ids, attention_mask")
    lines = [
        "---",
        "library_name: dynamic_exit",
        f"pipeline_tag: {task}",
        "tags: [dynamic-exit, early-exit, onnx]",
        "---",
        f"# {title}, dynamic",
        "",
        "A classifier that answers easy inputs early. The operating point is chosen when calling.",
        "",
        "```python",
        f"from dynamic_exit import DynamicExitModelFor{kind}Classification",
        "",
        f'model = DynamicExitModelFor{kind}Classification.from_pretrained("this folder")',
        f'model.set_operating_point("{points.names[0]}")',
        f"answer = model({inputs})  # logits, exit_index, confidence",
        "```",
        "",
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Measured on {metrics['samples']['test']} test samples that nothing was tuned on; "
        f"cost in {points.cost_unit} over the backbone's; {metrics['timing']['runtime']}, "
        f"{metrics['timing']['threads']} thread, median and half the distance of the quartiles.",
    ]
    return "\n".join(lines) + "\n"
